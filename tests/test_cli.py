"""The command line: version, help, exit codes, one-line errors, the ready file, environment, stopping."""

import json
import re
import signal
import socket

import httpx
import pytest

from harness import GUIDE_PROMPT, MODEL, ROOT, TOKENIZER, run, wait_until

COMMANDS = ["serve", "sim", "bench", "demo", "endpoints", "explain", "tokenize", "config"]


def test_version():
    done = run("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"warmpath \d+\.\d+\.\d+ \(git [0-9a-f]{7,}(-dirty)?\)\n", done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    done = run(command, "--help")
    assert done.returncode == 0 and "--" in done.stdout and not done.stderr


@pytest.mark.parametrize("args, named", [
    (["serve", "--bogus"], "--bogus"),
    (["frobnicate"], "frobnicate"),
    ([], "subcommand"),
    (["serve"], "--endpoint"),
    (["serve", "--endpoint", "ftp://127.0.0.1:1"], "ftp://127.0.0.1:1"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "--endpoint", "http://127.0.0.1:2"], "events"),
    (["serve", "--endpoint", "http://127.0.0.1:1,colour=red"], "colour"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "--metrics-port", "99999"], "--metrics-port"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "--listen", "nowhere"], "--listen"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "--index-memory", "lots"], "--index-memory"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "--decision-timeout", "5"], "--decision-timeout"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "--metrics-beat-interval", "-5s"], "--metrics-beat-interval"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "--index-memory", "0"], "--index-memory"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "--kv-events-bind", "nowhere"], "--kv-events-bind"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "--listen", "300.1.1.1:0"], "--listen"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--metrics-host", "nowhere"], "--metrics-host"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "--log-format", "xml"], "--log-format"),
    (["serve", "--endpoint", "http://127.0.0.1:1", "-v", "9"], "verbosity"),
    (["sim", MODEL, "--block-size", "many"], "--block-size"),
    (["bench", "--target", "http://127.0.0.1:1", "--workload", "chaos"], "--workload"),
    (["config", "check"], "FILE"),
])
def test_usage_errors_exit_2_with_one_line(args, named):
    done = run(*args)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1 and named in done.stderr, done.stderr


def test_port_taken_exits_1_with_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--endpoint", "http://127.0.0.1:1", "--listen", f"127.0.0.1:{port}", "--metrics-port", 0)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].count(str(port)) >= 1 and "Traceback" not in done.stderr


def test_a_missing_file_exits_1():
    for flag in ("--config-file", "--engine-api-key-file"):
        done = run("serve", "--endpoint", "http://127.0.0.1:1", flag, "/nonexistent/file")
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and "/nonexistent/file" in done.stderr


@pytest.mark.parametrize("text, line, field", [
    ("apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: no-such-scorer\n", 4, "no-such-scorer"),
    ("apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\nplugin: []\n", 3, "plugin"),
    ("kind: [\n", 1, ""),
])
def test_bad_configuration_names_file_line_and_field(tmp_path, text, line, field):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    for done in (run("config", "check", file), run("serve", "--endpoint", "http://127.0.0.1:1", "--config-file", file)):
        assert done.returncode == 2, done.stderr
        output = done.stderr + done.stdout
        assert re.search(rf"bad\.yaml:\d+", output), output
        assert field in output


@pytest.mark.parametrize("name", ["guide-v0.5.yaml", "precise-prefix.yaml"])
def test_shipped_configurations_are_valid(name):
    done = run("config", "check", ROOT / "deploy/config" / name)
    assert done.returncode == 0, done.stderr + done.stdout


def test_ready_file_names_every_listener(start):
    sim = start.sim(count=2, tokenizer=False)
    assert len(sim.engines()) == 2 and sim.listeners["pid"] == sim.popen.pid
    router = start.serve(engines=sim.engines(), tokenizer=False)
    assert router.listeners["pid"] == router.popen.pid
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", router.listeners["gateway"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", router.listeners["metrics"])
    for url in (router.listeners["metrics"], sim.engines()[1]["url"]):
        assert url in router.log() + sim.log()


def test_environment_sets_flags_and_the_command_line_wins(start):
    sim = start.sim(tokenizer=False)
    env = {"WARMPATH_LOG_FORMAT": "json", "WARMPATH_METRICS_BEAT_INTERVAL": "100ms"}
    router = start.serve(engines=sim.engines(), env=env, tokenizer=False)
    beat = wait_until(lambda: [line for line in router.log().splitlines() if "metrics beat" in line], "a beat")[0]
    fields = json.loads(beat)
    order = ["admissions", "evictions", "lookups", "hits", "latency_count", "latency_sum", "latency_avg"]
    assert [key for key in fields if key in order] == order
    done = run("serve", "--endpoint", "http://127.0.0.1:1", "--metrics-port", "-1", env={"WARMPATH_METRICS_PORT": "0"})
    assert done.returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signals_exit_0(start, number):
    sim = start.sim(tokenizer=False)
    router = start.serve(engines=sim.engines(), tokenizer=False).wait_ready()
    for process in (router, sim):
        process.signal(number)
        wait_until(lambda p=process: p.popen.poll() is not None, f"{process.name} ends")
        assert process.popen.returncode == 0


def test_drain_lets_a_stream_end(start):
    sim = start.sim("--sim-inter-token-latency", "20ms", tokenizer=False)
    router = start.serve(engines=sim.engines(), tokenizer=False).wait_ready()
    body = {"model": MODEL, "prompt": GUIDE_PROMPT, "max_tokens": 60, "stream": True, "ignore_eos": True}
    received = []
    with httpx.stream("POST", router.url + "/v1/completions", json=body, timeout=20) as answer:
        for line in answer.iter_lines():
            received.append(line)
            if len(received) == 1:
                router.signal()
    assert received[-2 if received[-1] == "" else -1] == "data: [DONE]"
    assert len([line for line in received if line.startswith("data: {")]) >= 60
    wait_until(lambda: router.popen.poll() is not None, "router ends after the drain")
    assert router.popen.returncode == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(router.url + "/v1/models")


def test_tokenize_without_a_router():
    done = run("tokenize", "Hello, world", "--tokenizer", TOKENIZER, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["token_ids"] == [9707, 11, 1879]


def test_a_router_that_is_not_there_is_one_line():
    done = run("endpoints", "--server", "http://127.0.0.1:9")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "127.0.0.1:9" in done.stderr


def test_a_bench_that_nobody_answers_exits_1():
    done = run("bench", "--workload", "guide", "--requests", "2", "--concurrency", "1", "--model", MODEL, "--target", "http://127.0.0.1:9")
    assert done.returncode == 1 and "2 errors" in done.stdout


def test_a_simulator_without_its_tokenizer_exits_1():
    done = run("sim", MODEL, "--port", "0", "--tokenizer", "nobody/no-such-model")
    assert done.returncode == 1 and "--tokenizer nobody/no-such-model" in done.stderr
