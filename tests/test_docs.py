"""What the documentation names must exist, and what exists must be documented."""

import re
import subprocess

import pytest

from harness import GUIDE_PROMPT, ROOT, run

DOCS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")


def flags_of(command):
    return set(FLAG.findall(run(*command, "--help").stdout))


@pytest.fixture(scope="module")
def help_flags():
    commands = {"serve": ["serve"], "sim": ["sim"], "bench": ["bench"], "demo": ["demo"], "endpoints": ["endpoints"], "explain": ["explain"],
                "tokenize": ["tokenize"], "config": ["config", "check"]}
    return {name: flags_of(command) for name, command in commands.items()}


def shell_commands(text):
    """(command, flags) of every `warmpath COMMAND ...` in the text, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", text)
    for match in re.finditer(r"warmpath (serve|sim|bench|demo|endpoints|explain|tokenize|config)\b([^`\n]*)", text):
        yield match.group(1), FLAG.findall(match.group(2))


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_the_docs_exist(path, help_flags):
    for command, flags in shell_commands(path.read_text()):
        assert set(flags) <= help_flags[command], f"{path.name}: warmpath {command}"


def section(text, title):
    return re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", text, re.M | re.S).group(0)


@pytest.mark.parametrize("command", ["serve", "sim", "bench"])
def test_configuration_page_lists_exactly_the_flags(command, help_flags):
    text = section((ROOT / "docs/configuration.md").read_text(), f"warmpath {command}")
    documented = set(re.findall(r"^\| `(--[a-z0-9-]+)", text, re.M))
    everywhere = {"--help", "--verbosity", "--log-format", "--ready-file", "--help-all", "--version", "--no-enable-prefix-caching"}
    assert documented - everywhere == help_flags[command] - everywhere


def test_metrics_page_lists_exactly_the_metrics(fleet):
    _, router = fleet
    for _ in range(2):
        router.complete(GUIDE_PROMPT, max_tokens=2)
    router.complete("x", model="no-such-model")
    exposed = {re.sub(r"_(bucket|sum|count)$", "", name) if kind == "histogram" else name
               for name, kind in re.findall(r"^# TYPE (\S+) (\S+)", router.get("/metrics").text, re.M)}
    documented = set(re.findall(r"^\| `([a-z0-9_]+)", (ROOT / "docs/metrics.md").read_text(), re.M))
    optional = set(re.findall(r"^\| `([a-z0-9_]+)[^|]*\|[^|]*\(when it happens\)", (ROOT / "docs/metrics.md").read_text(), re.M))
    assert exposed - documented == set(), "exposed and not documented"
    assert documented - exposed - optional == set(), "documented and not exposed"


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_file_names_in_the_docs_exist(path):
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), target
    for name in re.findall(r"`((?:src|scripts|docs|tests|rust|fuzz|bench|deploy)/[\w./-]+\.\w+)`", text):
        if "NAME" not in name:
            assert (ROOT / name).exists(), name


def test_two_commands_of_the_readme():
    text = (ROOT / "README.md").read_text()
    assert "./dev demo" in text and "./dev test" in text
    usage = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
    for verb in set(re.findall(r"\./dev (\w+)", " ".join(p.read_text() for p in DOCS))):
        assert f"./dev {verb}" in usage
