"""What the whole-program tests stand on: processes that always end, conditions awaited with a deadline, log lines as data."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import httpx

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("WARMPATH_BIN", ROOT / "build/bin/warmpath"))
TOKENIZER = ROOT / ".deps/tokenizers/qwen3"
MODEL = "Qwen/Qwen3-0.6B"
DEADLINE = 20.0
# No test may ask a real hub for a tokenizer.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1"}

PARAGRAPH = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit. Sed do eiusmod tempor incididunt ut labore et dolore magna aliqua. "
    "Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat. Duis aute irure "
    "dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur. Excepteur sint occaecat cupidatat non "
    "proident, sunt in culpa qui officia deserunt mollit anim id est laborum."
)
GUIDE_PROMPT = f"{PARAGRAPH} {PARAGRAPH}"  # 192 tokens of Qwen3's tokenizer: three blocks of 64


def wait_until(condition, what, deadline=DEADLINE):
    """Polls until `condition()` is true and returns its value."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"after {deadline} s still not: {what() if callable(what) else what}")
        time.sleep(0.01)


def free_port():
    """A port that was free a moment ago, for what must be known before its owner starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*args, env=None, timeout=DEADLINE, stdin=None):
    """Runs the binary to its end."""
    return subprocess.run([str(BINARY), *map(str, args)], capture_output=True, text=True, timeout=timeout, input=stdin,
                          env={**os.environ, **ENVIRONMENT, **(env or {})})


class Process:
    """A running `warmpath` command; ready once it has written its ready file."""

    def __init__(self, directory, name, args, env=None):
        self.name = name
        self.log_path = directory / f"{name}.log"
        self.ready_path = directory / f"{name}.ready"
        self.ready_path.unlink(missing_ok=True)
        command = [*self.program(), *map(str, args), "--ready-file", str(self.ready_path)]
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT, **(env or {})})
        try:
            wait_until(lambda: self.ready_path.exists() or self.popen.poll() is not None, f"{name} ready")
            if not self.ready_path.exists():
                raise AssertionError(f"{name} ended with {self.popen.poll()}: {self.log()}")
        except AssertionError:
            self.kill()
            raise
        self.listeners = json.loads(self.ready_path.read_text())

    def program(self):
        return [str(BINARY)]

    def log(self):
        return self.log_path.read_text(errors="replace")

    def signal(self, number=signal.SIGTERM):
        self.popen.send_signal(number)

    def stop(self, timeout=DEADLINE):
        """SIGTERM; returns the exit code."""
        if self.popen.poll() is None:
            self.signal()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.name} did not end within {timeout} s of SIGTERM") from None
        return self.popen.returncode

    def kill(self):
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()


class Sim(Process):
    def engines(self):
        """[{"url", "events", "replay"}] in order."""
        out = []
        while True:
            suffix = "" if not out else f"_{len(out)}"
            if "engine" + suffix not in self.listeners:
                return out
            out.append({key: self.listeners.get(field + suffix, "")
                        for key, field in (("url", "engine"), ("events", "events"), ("replay", "replay"))})


def endpoint_flag(engine):
    return "".join([engine["url"], f",events={engine['events']}", f",replay={engine['replay']}" if engine["replay"] else ""])


class Router(Process):
    @property
    def url(self):
        return self.listeners["gateway"]

    @property
    def api(self):
        return self.listeners["metrics"]

    def get(self, path):
        return httpx.get(self.api + path, timeout=DEADLINE)

    def ready(self):
        try:
            return self.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def wait_ready(self):
        wait_until(self.ready, lambda: f"/readyz is 200; it says {self.get('/readyz').text}")
        return self

    def endpoints(self):
        return self.get("/api/v1/endpoints").json()["endpoints"]

    def wait_events(self, count):
        """Every endpoint's subscription stands, so that no event from now on is missed."""
        wait_until(lambda: sum(e["events"]["connected"] for e in self.endpoints()) == count, "events connected")
        return self

    def blocks(self):
        return sum(e["blocks"] for e in self.endpoints())

    def metric(self, name, **labels):
        """Sum over the series of `name` that carry `labels`; None when there is none."""
        values = [value for found, series, value in parse_metrics(self.get("/metrics").text)
                  if found == name and all(series.get(k) == v for k, v in labels.items())]
        return sum(values) if values else None

    def pod_scores(self):
        """[scores] of every `Got pod scores` line so far."""
        out = []
        for line in self.log().splitlines():
            if "Got pod scores" in line:
                out.append(json.loads(line[line.index("{"):])["scores"])
        return out

    def complete(self, prompt, **more):
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 50, **more}
        return httpx.post(self.url + "/v1/completions", json=body, timeout=DEADLINE)


def parse_metrics(text):
    """[(name, labels, value)] of Prometheus text."""
    out = []
    for line in text.splitlines():
        match = re.match(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)", line)
        if match and not line.startswith("#"):
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match.group(2) or ""))
            out.append((match.group(1), labels, float(match.group(3))))
    return out
