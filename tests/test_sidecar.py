"""The proxy beside an engine: the charts' argument lists, requests through it, and what it refuses."""

import json
import signal
import socket
import ssl
import threading

import httpx
import openai
import pytest

from harness import DEADLINE, GUIDE_PROMPT, MODEL, Process, free_port, run, wait_until


class Sidecar(Process):
    @property
    def url(self):
        return self.listeners["sidecar"].replace("0.0.0.0", "127.0.0.1")


def engine_port(sim):
    return httpx.URL(sim.engines()[0]["url"]).port


@pytest.fixture
def start_sidecar(start):
    return lambda *flags, env=None: start._start(Sidecar, "sidecar", ["sidecar", *flags], env)


@pytest.fixture(scope="module")
def pod(start_shared):
    """(engine, sidecar) started as the chart of the guide does."""
    sim = start_shared.sim(tokenizer=False)
    arguments = ["--port=0", f"--vllm-port={engine_port(sim)}", "--connector=nixlv2", "-v=5", "--secure-proxy=false"]
    return sim, start_shared._start(Sidecar, "sidecar", ["sidecar", *arguments])


def test_listens_everywhere_and_names_flags_without_effect(pod):
    _, sidecar = pod
    assert sidecar.listeners["sidecar"].startswith("http://0.0.0.0:")
    assert "flags without effect" in sidecar.log() and "connector" in sidecar.log()


def test_chat_completions_and_models_of_the_sdk(pod):
    _, sidecar = pod
    client = openai.OpenAI(base_url=sidecar.url + "/v1", api_key="unused", max_retries=0)
    assert [model.id for model in client.models.list()] == [MODEL]
    whole = client.completions.create(model=MODEL, prompt="One two three", max_tokens=12, seed=7)
    messages = [{"role": "user", "content": "One two three"}]
    assert client.chat.completions.create(model=MODEL, messages=messages, max_tokens=4).choices[0].message.content
    chunks = list(client.completions.create(model=MODEL, prompt="One two three", max_tokens=12, seed=7, stream=True))
    assert len(chunks) >= 12
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text


def test_bytes_are_the_engines(pod):
    sim, sidecar = pod
    for path in ("/health", "/version", "/v1/models", "/no/such/path", "/debug/kv"):
        direct, through = (httpx.get(url + path, timeout=DEADLINE) for url in (sim.engines()[0]["url"], sidecar.url))
        assert (through.status_code, through.content) == (direct.status_code, direct.content), path
        assert through.headers.get("content-type") == direct.headers.get("content-type")
    assert "vllm:" in httpx.get(sidecar.url + "/metrics", timeout=DEADLINE).text


@pytest.mark.parametrize("header", ["x-prefiller-host-port", "x-encoder-hosts-ports", "x-kv-cache-source-host-port"])
def test_disaggregation_is_refused_by_name(pod, header):
    _, sidecar = pod
    answer = httpx.post(sidecar.url + "/v1/completions", json={"model": MODEL, "prompt": "x"}, headers={header: "10.0.0.1:8000"}, timeout=DEADLINE)
    assert answer.status_code == 501
    assert header in answer.json()["error"]["message"]


def test_a_client_that_leaves_ends_the_engines_work(pod):
    sim, sidecar = pod

    def running():
        text = httpx.get(sim.engines()[0]["url"] + "/metrics", timeout=DEADLINE).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("vllm:num_requests_running"))

    body = {"model": MODEL, "prompt": GUIDE_PROMPT, "max_tokens": 5000, "stream": True, "ignore_eos": True}
    with httpx.stream("POST", sidecar.url + "/v1/completions", json=body, timeout=DEADLINE) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        wait_until(lambda: running() == 1, "the engine is at work")
    wait_until(lambda: running() == 0, "the engine has stopped")


def test_an_engine_that_is_down_is_named(start, start_sidecar):
    port = free_port()
    sidecar = start_sidecar("--port=0", f"--model-server-port={port}", "--secure-proxy=false")
    answer = httpx.get(sidecar.url + "/health", timeout=DEADLINE)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine_unreachable"
    assert f"127.0.0.1:{port}" in answer.json()["error"]["message"]
    # The engine comes later, as vLLM does.
    start.sim(tokenizer=False, port=port, events=None)
    assert httpx.get(sidecar.url + "/health", timeout=DEADLINE).status_code == 200


def test_tls_is_the_default(pod, start_sidecar):
    sim, _ = pod
    sidecar = start_sidecar("--port=0", f"--vllm-port={engine_port(sim)}")
    assert sidecar.url.startswith("https://")
    assert httpx.get(sidecar.url + "/health", verify=False, timeout=DEADLINE).status_code == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        with socket.create_connection(("127.0.0.1", httpx.URL(sidecar.url).port)) as raw:
            ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")


def test_ranks_have_ports_of_their_own(start, start_sidecar):
    sim = start.sim("--data-parallel-size", 2, tokenizer=False, events=None)
    sidecar = start_sidecar("--port=0", f"--vllm-port={engine_port(sim)}", "--data-parallel-size=2", "--secure-proxy=false", env={"POD_IP": "127.0.0.1"})
    second = sidecar.listeners["sidecar_rank_1"].replace("0.0.0.0", "127.0.0.1")
    headers = {"x-data-parallel-host-port": second.removeprefix("http://")}
    chosen = httpx.get(sidecar.url + "/health", headers=headers, timeout=DEADLINE)
    assert chosen.status_code == httpx.get(second + "/health", timeout=DEADLINE).status_code
    assert httpx.get(sidecar.url + "/health", headers={"x-data-parallel-host-port": "127.0.0.1:1"}, timeout=DEADLINE).status_code == 400


def test_a_stop_lets_streams_end(pod, start_sidecar):
    sim, _ = pod
    sidecar = start_sidecar("--port=0", f"--vllm-port={engine_port(sim)}", "--secure-proxy=false")
    lines = []
    begun = threading.Event()

    def read():
        body = {"model": MODEL, "prompt": "One two three", "max_tokens": 60, "stream": True, "ignore_eos": True}
        with httpx.stream("POST", sidecar.url + "/v1/completions", json=body, timeout=DEADLINE) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(DEADLINE)
    sidecar.signal(signal.SIGTERM)
    reader.join(DEADLINE)
    assert "data: [DONE]" in lines
    assert sidecar.popen.wait(DEADLINE) == 0  # of itself: a second signal would end it at once


def test_newer_argument_lists_start(pod, start_sidecar):
    sim, _ = pod
    sidecar = start_sidecar(
        "--port=0", f"--model-server-port={engine_port(sim)}", "--kv-connector=nixlv2", "--ec-connector=ec-nixl", "--mooncake-bootstrap-port=8998",
        "--p2p-connector-port=7777", "--enable-p2p-pull", "--secure-proxy=false", "--enable-tls=prefiller,encoder", "--tls-insecure-skip-verify=prefiller",
        "--enable-ssrf-protection=false", "--inference-pool=ns/pool", "--pool-group=inference.networking.k8s.io", "--enable-prefiller-sampling",
        "--decode-chunk-size=0", "--tracing=false", "--metrics-port=0", "--max-idle-conns-per-host=64", "--prefill-max-retries=0",
        "--prefill-retry-backoff=200ms", "--zap-encoder=json", "--zap-log-level=debug")
    assert httpx.get(sidecar.url + "/health", timeout=DEADLINE).status_code == 200


def test_flags_in_every_spelling_of_go(pod, start_sidecar):
    sim, _ = pod
    sidecar = start_sidecar("-port", "0", "-vllm-port", engine_port(sim), "--secureProxy=F", "--connector", "lmcache", "--v", "3")
    assert httpx.get(sidecar.url + "/health", timeout=DEADLINE).status_code == 200


def test_flags_in_a_file_yield_to_the_command_line(pod, start_sidecar, tmp_path):
    sim, _ = pod
    file = tmp_path / "sidecar.yaml"
    file.write_text(json.dumps({"port": 1, "model-server-port": engine_port(sim), "secure-proxy": False, "enable-tls": ["prefiller", "encoder"]}))
    sidecar = start_sidecar("--configuration-file", file, "--port=0")
    assert httpx.get(sidecar.url + "/health", timeout=DEADLINE).status_code == 200


@pytest.mark.parametrize("flags, named", [
    (["--no-such-flag=1"], "--no-such-flag"),
    (["--moriio-write-mode"], "--moriio-write-mode"),
    (["--port=70000"], "--port"),
    (["--enable-tls=router"], "--enable-tls"),
    (["--secure-proxy=maybe"], "--secure-proxy"),
    (["--port=65000", "--data-parallel-size=1000"], "--data-parallel-size"),
    (["--configuration=[1]"], "--configuration:1"),
    (["--configuration-file=/nowhere.yaml"], "/nowhere.yaml"),
])
def test_bad_flags_are_usage_errors_in_one_line(flags, named):
    done = run("sidecar", *flags)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr.strip().splitlines()[-1]
