"""What the documentation names must exist, and what exists must be documented."""

import re
import subprocess

import httpx
import pytest

from harness import GUIDE_PROMPT, MODEL, ROOT, run, wait_until

DOCS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "deploy").rglob("*.md"))]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")


def flags_of(command):
    return set(FLAG.findall(run(*command, "--help").stdout))


@pytest.fixture(scope="module")
def help_flags():
    commands = {"serve": ["serve"], "epp": ["epp"], "sim": ["sim"], "sidecar": ["sidecar"], "bench": ["bench"], "demo": ["demo"], "endpoints": ["endpoints"], "explain": ["explain"],
                "tokenize": ["tokenize"], "config": ["config", "check"]}
    return {name: flags_of(command) for name, command in commands.items()}


def shell_commands(text):
    """(command, flags) of every `warmpath COMMAND ...` in the text, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", text)
    for match in re.finditer(r"warmpath (serve|epp|sim|sidecar|bench|demo|endpoints|explain|tokenize|config)\b([^`\n]*)", text):
        yield match.group(1), FLAG.findall(match.group(2))


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_the_docs_exist(path, help_flags):
    for command, flags in shell_commands(path.read_text()):
        assert set(flags) <= help_flags[command], f"{path.name}: warmpath {command}"


def section(text, title):
    return re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", text, re.M | re.S).group(0)


@pytest.mark.parametrize("command", ["serve", "epp", "sim", "sidecar", "bench"])
def test_configuration_page_lists_exactly_the_flags(command, help_flags):
    text = section((ROOT / "docs/configuration.md").read_text(), f"warmpath {command}")
    documented = set(re.findall(r"^\| `(--[a-z0-9-]+)", text, re.M))
    everywhere = {"--help", "--verbosity", "--log-format", "--ready-file", "--help-all", "--version", "--no-enable-prefix-caching"}
    assert documented - everywhere == help_flags[command] - everywhere


def exposed_by(router):
    return {re.sub(r"_(bucket|sum|count)$", "", name) if kind == "histogram" else name
            for name, kind in re.findall(r"^# TYPE (\S+) (\S+)", router.get("/metrics").text, re.M)}


@pytest.fixture(scope="module")
def exposed(fleet, start_shared):
    """What a router and a picker behind Envoy show once both have served: (by default, with the flags that add metrics)."""
    sim, router = fleet
    for _ in range(2):
        router.complete(GUIDE_PROMPT, max_tokens=2)
    router.complete("x", model="no-such-model")
    endpoints = start_shared.directory / "endpoints.yaml"
    endpoints.write_text("endpoints: []\n")
    picker = start_shared.epp("--enable-grpc-stream-metrics", "--deprecated-metric-names", "--endpoints-file", endpoints, engines=sim.engines())
    picker.wait_ready().wait_events(2)
    front = start_shared.envoy(picker)
    for _ in range(2):
        answer = httpx.post(front.url + "/v1/completions", json={"model": MODEL, "prompt": GUIDE_PROMPT, "max_tokens": 2}, timeout=30)
        assert answer.status_code == 200
    wait_until(lambda: picker.metric("llm_d_epp_extproc_streams_total") >= 2, "the streams are counted")
    return exposed_by(router), exposed_by(picker)


def test_metrics_page_lists_exactly_the_metrics(exposed):
    router, picker = exposed
    text = (ROOT / "docs/metrics.md").read_text()
    documented = set(re.findall(r"^\| `([a-z0-9_]+)", text, re.M))
    optional = set(re.findall(r"^\| `([a-z0-9_]+)[^|]*\|[^|]*\(when it happens\)", text, re.M))
    assert (router | picker) - documented == set(), "exposed and not documented"
    assert documented - router - picker - optional == set(), "documented and not exposed"
    assert {name for name in router if name.startswith("inference_")} == set(), "old names without the flag"
    old = set(re.findall(r"^\| `([a-z0-9_]+)", section(text, "Older names"), re.M))
    assert {name for name in picker if name.startswith("inference_")} <= old <= {name for name in documented if not name.startswith(("llm_d_epp_", "warmpath_"))}


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_file_names_in_the_docs_exist(path):
    text = path.read_text()
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        if "://" not in target:
            linked = path.parent / target if target else path
            assert linked.exists(), target
            if anchor and linked.suffix == ".md":
                headings = re.findall(r"^#+ (.*)", linked.read_text(), re.M)
                assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, anchor
    for name in re.findall(r"`((?:src|scripts|docs|tests|rust|fuzz|bench|deploy)/[\w./-]+\.\w+)`", text):
        if "NAME" not in name:
            assert (ROOT / name).exists(), name


def test_the_guide_sends_its_prompt_and_names_its_charts():
    text = (ROOT / "deploy/guide/README.md").read_text()
    assert f'LONG_TEXT_200_WORDS="{GUIDE_PROMPT}"' in text
    for chart in ("llm-d-infra", "inferencepool", "llm-d-modelservice"):
        version = re.search(r"^version: (\S+)", (ROOT / f"deploy/charts/{chart}/Chart.yaml").read_text(), re.M).group(1)
        assert f"{chart}-{version} " in text


def test_two_commands_of_the_readme():
    text = (ROOT / "README.md").read_text()
    assert "./dev demo" in text and "./dev test" in text
    usage = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
    for verb in set(re.findall(r"\./dev (\w+)", " ".join(p.read_text() for p in DOCS))):
        assert f"./dev {verb}" in usage
