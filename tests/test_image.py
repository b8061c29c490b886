"""The image: its last stage only unpacks the tarball of `./dev package`, and that tarball runs as uid 65532 on a read-only root with no more than glibc."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess

import httpx
import pytest

from harness import BINARY, GUIDE_PROMPT, MODEL, ROOT, Router, Sim, wait_until
from hub import Hub

UID = 65532


def instructions(text):
    """[(INSTRUCTION, arguments)], continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    return [tuple(line.split(maxsplit=1)) for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]


@pytest.fixture(scope="module")
def last_stage():
    stages = []
    for name, arguments in instructions((ROOT / "deploy/Dockerfile").read_text()):
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, arguments))
    assert len(stages) >= 2
    assert ("RUN", "./dev package") in stages[0] and stages[0][0][1].endswith(" AS build")
    return stages[-1]


def test_the_last_stage_only_unpacks_the_tarball(last_stage):
    assert {name for name, _ in last_stage} == {"FROM", "RUN", "ENV", "USER", "EXPOSE", "ENTRYPOINT"}
    runs = [arguments for name, arguments in last_stage if name == "RUN"]
    assert len(runs) == 1
    words = shlex.split(runs[0])
    assert words[:5] == ["--mount=type=bind,from=build,source=/src/build,target=/package", "mkdir", "/opt/warmpath", "&&", "tar"]
    assert words[5:8] == ["-xzf", "/package/warmpath-*.tar.gz", "-C"] and "&&" not in words[8:]
    assert ("USER", f"{UID}:{UID}") in last_stage
    assert {int(port) for name, ports in last_stage if name == "EXPOSE" for port in ports.split()} == {9002, 9003, 9090, 5557, 8080}
    assert [json.loads(arguments) for name, arguments in last_stage if name == "ENTRYPOINT"] == [["warmpath"]]


@pytest.fixture(scope="module")
def environment(last_stage):
    return dict(pair.split("=", 1) for name, arguments in last_stage if name == "ENV" for pair in shlex.split(arguments))


@pytest.fixture(scope="module")
def tarball(tmp_path_factory):
    """Packed from the binary under test: nothing is built."""
    out = tmp_path_factory.mktemp("package")
    subprocess.run([ROOT / "scripts/package.sh", BINARY, out], check=True, capture_output=True, text=True)
    (path,) = out.glob("warmpath-*.tar.gz")
    return path


def enter(root, writable, *command):
    """The argument list that runs `command` as UID on `root`, all of it read-only but `writable`, which has the same path inside."""
    script = """
        set -e
        root=$1 writable=$2; shift 2
        mount --bind "$root" "$root"
        mount --rbind /dev "$root/dev"
        mount --rbind /proc "$root/proc"
        mount --bind "$writable" "$root$writable"
        mount -o remount,bind,ro "$root"
        exec setpriv --no-new-privs chroot --userspec=%d:%d "$root" "$@"
    """ % (UID, UID)
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "enter", str(root), str(writable), *map(str, command)]


@pytest.fixture(scope="module")
def root(tarball, tmp_path_factory):
    """The unpacked tarball and, of this machine, nothing but glibc."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount and change roots")
    missing = [tool for tool in ("unshare", "setpriv", "chroot", "ldd") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"this machine has no {', '.join(missing)}")
    root = tmp_path_factory.mktemp("image") / "root"
    for directory in ("opt/warmpath", "etc", "dev", "proc"):
        (root / directory).mkdir(parents=True)
    subprocess.run(["tar", "-xzf", tarball, "-C", root / "opt/warmpath", "--strip-components=1", "--no-same-owner"], check=True)
    linked = subprocess.run(["ldd", root / "opt/warmpath/bin/warmpath"], check=True, capture_output=True, text=True).stdout
    for path in re.findall(r"(/\S+) \(0x", linked):
        if not path.startswith(str(root)):
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    writable = tmp_path_factory.mktemp("probe")
    (root / str(writable).lstrip("/")).mkdir(parents=True)
    probe = subprocess.run(enter(root, writable, "/opt/warmpath/bin/warmpath", "--version"), capture_output=True, text=True)
    if "mount" in probe.stderr or "unshare" in probe.stderr:
        pytest.skip(f"this machine does not let root mount: {probe.stderr.strip()}")
    assert probe.returncode == 0 and probe.stdout.startswith("warmpath "), probe.stderr
    return root


def test_nothing_but_glibc_comes_from_the_system(root, environment):
    outside = {path.name.split(".so")[0] for path in root.rglob("*.so*") if "opt" not in path.relative_to(root).parts}
    assert outside <= {"libc", "libm", "libdl", "librt", "libpthread", "libresolv", "ld-linux-x86-64", "ld-linux-aarch64"}
    authorities = root / environment["SSL_CERT_FILE"].lstrip("/")
    assert "BEGIN CERTIFICATE" in authorities.read_text()
    assert environment["PATH"].split(":")[0] == "/opt/warmpath/bin"


def test_router_and_simulator_run_as_nobody_on_a_read_only_root(root, environment, start, tmp_path):
    writable = tmp_path / "writable"  # stands for an emptyDir
    writable.mkdir()
    os.chown(writable, UID, UID)
    (root / str(writable).lstrip("/")).mkdir(parents=True)

    def program(self):
        return enter(root, writable, "/opt/warmpath/bin/warmpath")

    def launch(kind, name, args, env=None):
        contained = type("Contained", (kind,), {"program": program})
        process = contained(writable, name, args, {**environment, "PATH": os.environ["PATH"], **(env or {})})
        start.started.append(process)
        return process

    def lines(process, what):
        return pathlib.Path(f"/proc/{process.popen.pid}/{what}").read_text().splitlines()

    hub = Hub()
    try:
        sim = launch(Sim, "sim", ["sim", MODEL, "--host", "127.0.0.1", "--port", 0, "--enable-prompt-tokens-details"])
        engine = sim.engines()[0]["url"] + ",events=none"
        picker = launch(Router, "epp", ["epp", "--secure-serving=false", "--grpc-host", "127.0.0.1", "--grpc-port", 0, "--grpc-health-port", 0,
                                        "--metrics-host", "127.0.0.1", "--metrics-port", 0, "--tokenizer", MODEL, "--drain-timeout", "2s", "--endpoint", engine],
                        hub.environment(writable / "cache"))
        for process in (sim, picker):
            status = dict(line.split(":\t", 1) for line in lines(process, "status") if ":\t" in line)
            assert set(status["Uid"].split()) == {str(UID)} and int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1"
            mounts = {words[4]: words[5].split(",") for words in map(str.split, lines(process, "mountinfo"))}
            assert "ro" in mounts["/"] and "rw" in mounts[str(writable)]
        wait_until(lambda: picker.endpoints()[0]["tokenizer"]["source"] == "hub", lambda: f"loaded; {picker.endpoints()[0]['tokenizer']}")
        picker.wait_ready()
        front = start.envoy(picker)
        answer = httpx.post(front.url + "/v1/completions", json={"model": MODEL, "prompt": GUIDE_PROMPT, "max_tokens": 4}, timeout=30)
        assert answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] == 4
        assert picker.metric("llm_d_epp_request_total") == 1
        assert picker.stop() == 0 and sim.stop() == 0
    finally:
        hub.close()
