"""`warmpath epp` as a process: llm-d's flags in every spelling, health, drain, files that change, metrics, and the compatibility document."""

import importlib
import json
import re
import signal
import subprocess
import sys

import grpc
import httpx
import pytest

import envoy
from engines import ScriptedEngine
from harness import GUIDE_PROMPT, MODEL, ROOT, TOKENIZER, Router, endpoint_flag, free_port, run, wait_until

ENGINE = "http://127.0.0.1:1,events=none"


@pytest.fixture(scope="module")
def proto(tmp_path_factory):
    """The committed schemas as Python modules."""
    out = tmp_path_factory.mktemp("proto")
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", "ext_proc.proto", "health.proto"], check=True)
    sys.path.insert(0, str(out))
    yield lambda name: importlib.import_module(name)
    sys.path.remove(str(out))


def health(proto, picker, service, where="health"):
    pb = proto("health_pb2")
    with grpc.insecure_channel(picker.listeners[where]) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=pb.HealthCheckRequest.SerializeToString,
                                    response_deserializer=pb.HealthCheckResponse.FromString)
        return pb.HealthCheckResponse.ServingStatus.Name(check(pb.HealthCheckRequest(service=service.encode()), timeout=10).status)


# ---- the command line

CHARTS = {
    "v0.5.1": ["-poolName", "gaie-kv-events", "-poolNamespace", "llm-d-precise", "--v", "4", "--grpcPort", "{grpc}", "-grpcHealthPort", "{health}",
               "-metricsPort", "{metrics}", "-configFile", "{config}", "--enablePprof=true", "--modelServerMetricsPath=/metrics",
               "--modelServerMetricsScheme=http", "--modelServerMetricsHttpsInsecureSkipVerify=true"],
    "v1.2": ["--pool-name", "gaie-kv-events", "--pool-namespace", "llm-d-precise", "--pool-group", "inference.networking.k8s.io", "--zap-encoder", "json",
             "--config-file", "{config}", "--grpc-port", "{grpc}", "--grpc-health-port", "{health}", "--metrics-port={metrics}", "--v=5", "--tracing=false",
             "--kv-cache-usage-percentage-metric", "vllm:gpu_cache_usage_perc", "--metrics-endpoint-auth=false", "--enable-pprof=true"],
}
CHART_CONFIGS = {"v0.5.1": "chart-v0.5.1-default.yaml", "v1.2": "guide-v1.2.yaml"}


@pytest.mark.parametrize("chart", CHARTS)
def test_a_charts_arguments_work_unedited(start, proto, tmp_path, chart):
    engine = ScriptedEngine(MODEL, {})
    ready = tmp_path / "ready"
    values = {"grpc": 0, "health": 0, "metrics": 0, "config": ROOT / "deploy/config" / CHART_CONFIGS[chart]}
    arguments = [a.format(**values) for a in CHARTS[chart]]
    args = ["epp", *arguments, "--endpoint", engine.url + ",events=none", "--tokenizer", TOKENIZER, "--kv-events-bind", "tcp://127.0.0.1:0",
            "--grpc-host", "127.0.0.1", "--metrics-host", "127.0.0.1", "--drain-timeout", "0"]
    picker = Router(tmp_path, "chart", args)
    try:
        wait_until(lambda: health(proto, picker, "inference-extension") == "SERVING", "the chart's probe")
        picker.wait_ready()
        if chart == "v1.2":
            assert all(json.loads(line) for line in picker.log().splitlines() if line.startswith("{"))
            assert picker.log().count("deprecated flags set the series") == 1
    finally:
        assert picker.stop() == 0
        engine.close()
    assert not ready.exists()


@pytest.mark.parametrize("args, code, words", [
    ([], 2, "either pool-name or endpoint-selector must be set"),
    (["--pool-name", "p", "--endpoint-selector", "a=b", "--endpoint-target-ports", "8000"], 2, "either pool-name or endpoint-selector must be set"),
    (["--pool-name", "p", "--kubeconfig", "/does/not/exist"], 1, "/does/not/exist"),
    (["--endpoint-selector", "app=vllm", "--endpoint-target-ports", "8000", "--endpoint", ENGINE], 2, "leave one out"),
    (["--endpoint-selector", "app=vllm"], 2, "--endpoint-target-ports"),
    (["--endpoint-selector", "app=(", "--endpoint-target-ports", "8000"], 2, "--endpoint-selector"),
    (["--endpoint-selector", "a=b", "--endpoint-target-ports", "0"], 2, "is not a port"),
    (["--endpoint-selector", "a=b", "--endpoint-target-ports", "1,2,3,4,5,6,7,8,9"], 2, "at most 8"),
    (["--endpoint", ENGINE, "--ha-enable-leader-election"], 2, "--ha-enable-leader-election"),
    (["--endpoint-selector", "a=b", "--endpoint-target-ports", "8000", "--ha-enable-leader-election"], 2, "POD_NAME"),
    (["--endpoint", ENGINE, "--metrics-client-ca-file", "x"], 2, '"metrics-client-ca-file" requires "metrics-cert-dir"'),
    (["--endpoint", ENGINE, "--metrics-cert-dir", "x", "--metrics-endpoint-auth=false"], 2, "without authentication"),
    (["--endpoint", ENGINE, "--config-file", "a", "--config-text", "b"], 2, "exclude each other"),
    (["--endpoint", ENGINE, "--grpc-max-recv-msg-size", "big"], 2, "--grpc-max-recv-msg-size"),
    (["--endpoint", ENGINE, "--tls-min-version", "VersionTLS9"], 2, "VersionTLS9"),
    (["--endpoint", ENGINE, "--tls-cipher-suites", "NOPE"], 2, "NOPE"),
    (["--endpoint", ENGINE, "--cert-path", "/does/not/exist"], 1, "/does/not/exist"),
    (["--endpoint", ENGINE, "--destination-endpoint-hint-key", "x-other"], 2, "destination-endpoint-hint-key"),
    (["--endpoint", ENGINE, "--no-such-flag=1"], 2, "no-such-flag"),
    (["--endpoint", ENGINE, "--v"], 2, "flag needs an argument: --verbosity"),
    (["--endpoint", ENGINE, "--secure-serving=maybe"], 2, "invalid boolean value"),
    (["--endpoints-file", "/does/not/exist"], 1, "/does/not/exist"),
])
def test_what_is_wrong_is_said_in_one_line(args, code, words):
    done = run("epp", "--grpc-port", 0, "--grpc-health-port", 0, "--metrics-port", 0, *args)
    assert done.returncode == code, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert words in last and last.startswith("warmpath"), done.stderr


def test_help_shows_every_flag_of_llm_d():
    text = run("epp", "--help").stdout
    for flag in ("--pool-name", "--grpc-health-port", "--emit-endpoint-scores", "--zap-encoder", "--total-queued-requests-metric", "--tracing"):
        assert flag in text


# ---- health and drain

SERVICES = ["", "readiness", "liveness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor"]


def test_health_waits_for_neither_engines_nor_tokenizer(start, proto):
    picker = start.epp("--health-checking", engines=[ENGINE], tokenizer=False)
    for service in SERVICES:
        assert health(proto, picker, service) == "SERVING"
        assert health(proto, picker, service, "grpc") == "SERVING"
    with pytest.raises(grpc.RpcError) as unknown:
        health(proto, picker, "somebody")
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_liveness_stays_while_draining(start, proto):
    picker = start.epp("--drain-timeout", "15s", engines=[ENGINE], tokenizer=False)
    with grpc.insecure_channel(picker.listeners["grpc"]) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        wait_until(lambda: picker.popen.poll() is None, "running")
        picker.signal(signal.SIGTERM)
        wait_until(lambda: health(proto, picker, "readiness") == "NOT_SERVING", "draining")
        answers = {service: health(proto, picker, service) for service in SERVICES}
        assert answers.pop("liveness") == "SERVING"
        assert set(answers.values()) == {"NOT_SERVING"}
    assert picker.popen.wait(20) == 0


# ---- ext_proc by grpcio

def test_a_second_client_speaks_the_protocol(start, proto):
    engine = ScriptedEngine(MODEL, {})
    picker = start.epp("--emit-endpoint-scores", engines=[engine.url + ",events=none"], tokenizer=False)
    picker.wait_ready()
    pb = proto("ext_proc_pb2")

    def fields(struct):
        return {entry.key.decode(): entry.value for entry in struct.fields}

    def header(name, value):
        return pb.HeaderValue(key=name.encode(), raw_value=value.encode())

    headers = pb.HeaderMap(headers=[header(":method", "POST"), header(":path", "/v1/completions"), header("x-request-id", "grpc-1")])
    body = json.dumps({"model": MODEL, "prompt": "Hello."}).encode()
    messages = [pb.ProcessingRequest(request_headers=pb.HttpHeaders(headers=headers),
                                     protocol_config=pb.ProtocolConfiguration(request_body_mode=4, response_body_mode=4)),
                pb.ProcessingRequest(request_body=pb.HttpBody(body=body[:10])),
                pb.ProcessingRequest(request_body=pb.HttpBody(body=body[10:], end_of_stream=True))]
    with grpc.insecure_channel(picker.listeners["grpc"]) as channel:
        process = channel.stream_stream("/envoy.service.ext_proc.v3.ExternalProcessor/Process", request_serializer=pb.ProcessingRequest.SerializeToString,
                                        response_deserializer=pb.ProcessingResponse.FromString)
        answers = process(iter(messages), timeout=10)
        first = next(answers)
        mutation = first.request_headers.response.header_mutation
        sent = {option.header.key.decode(): option.header.raw_value.decode() for option in mutation.set_headers}
        address = engine.url.removeprefix("http://")
        assert sent["x-gateway-destination-endpoint"] == address
        lb = fields(fields(first.dynamic_metadata)["envoy.lb"].struct_value)
        assert lb["x-gateway-destination-endpoint"].string_value == address.encode()
        assert list(fields(lb["x-gateway-destination-endpoint-scores"].struct_value)) == [address]
        echoed, end = b"", False
        while not end:
            part = next(answers).request_body.response.body_mutation.streamed_response
            echoed, end = echoed + part.body, part.end_of_stream
        assert echoed == body
        answers.cancel()
    wait_until(lambda: picker.metric("llm_d_epp_request_running") == 0, "the abort released it")
    engine.close()


# ---- the guide through Envoy

def test_the_guide_through_envoy(start):
    ports = [free_port(), free_port()]
    picker = start.epp("-poolName", "gaie-kv-events", "--v", "4", "-configFile", ROOT / "deploy/config/guide-v0.5.yaml", "--kv-events-bind",
                       "tcp://127.0.0.1:0", "--metrics-beat-interval", "200ms", engines=[f"http://127.0.0.1:{port}" for port in ports])
    bound = re.search(r":(\d+)$", picker.listeners["kv_events"]).group(1)
    for port in ports:
        start.sim(port=port, events={"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": f"tcp://127.0.0.1:{bound}",
                                     "topic": f"kv@127.0.0.1:{port}@{MODEL}"})
    picker.wait_ready()
    wait_until(lambda: all(e["state"] == "healthy" for e in picker.endpoints()), "both engines healthy")
    front = start.envoy(picker)

    def send():
        before = len(picker.pod_scores())
        answer = httpx.post(front.url + "/v1/completions", json={"model": MODEL, "prompt": GUIDE_PROMPT, "max_tokens": 50}, timeout=30)
        assert answer.status_code == 200, answer.text
        return wait_until(lambda: picker.pod_scores()[before:], "a score line")[0], answer.json()

    scores, answer = send()
    assert scores is None and answer["usage"]["prompt_tokens"] == 192
    wait_until(lambda: picker.blocks() == 3, "three blocks admitted")
    scores, answer = send()
    assert list(scores.values()) == [2] and set(scores) <= {f"127.0.0.1:{port}" for port in ports}
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 128
    beat = r'"metrics beat" logger="metrics" admissions=3 evictions=0 lookups=2 hits=2 latency_count=2 latency_sum=\S+ latency_avg=\S+'
    wait_until(lambda: re.search(beat, picker.log()), "the beat with these counters")


def test_the_gateway_and_the_picker_decide_alike(start):
    """One process, both front doors, the same Director."""
    sim = start.sim("--sim-inter-token-latency", "1us", count=2)
    router = start.serve("-v", 4, "--grpc-port", 0, "--grpc-health-port", 0, engines=sim.engines())
    router.wait_ready().wait_events(2)
    front = start.envoy(router)

    def decision(url, name, prompt):
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 2}
        assert httpx.post(url + "/v1/completions", json=body, headers={"x-request-id": name}, timeout=30).status_code == 200
        record = router.get(f"/api/v1/requests/{name}").json()
        return record["chosen"], [(e["name"], e["matched_blocks"], e["cached_tokens"]) for e in record["endpoints"]]

    for i in range(4):
        prompt = f"{i} " + GUIDE_PROMPT
        decision(router.url, f"warm-{i}", prompt)
        wait_until(lambda: router.blocks() >= 3 * (i + 1), "its blocks")
        assert decision(front.url, f"envoy-{i}", prompt) == decision(router.url, f"gateway-{i}", prompt)


# ---- files

def endpoints_yaml(*urls):
    lines = ["endpoints:"] if urls else ["endpoints: []"]
    for i, url in enumerate(urls):
        host, _, port = url.removeprefix("http://").rpartition(":")
        lines += [f"- name: engine-{i}", f"  address: {host}", f"  port: \"{port}\""]
    return "\n".join(lines) + "\n"


DISCOVERY = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: file-discovery
  parameters: {{path: {path}, watchFile: {watch}}}
- type: queue-scorer
dataLayer:
  discovery: {{pluginRef: file-discovery}}
"""


@pytest.mark.parametrize("how", ["flag", "plugin"])
def test_endpoints_come_and_go_with_their_file(start, tmp_path, how):
    one, two = ScriptedEngine(MODEL, {}), ScriptedEngine(MODEL, {})
    path = tmp_path / "endpoints.yaml"
    path.write_text(endpoints_yaml(one.url))
    flags = ["--endpoints-file", path] if how == "flag" else ["--config-text", DISCOVERY.format(path=path, watch="true")]
    picker = start.epp(*flags, tokenizer=False)
    picker.wait_ready()
    path.write_text(endpoints_yaml(one.url, two.url))
    wait_until(lambda: [e["state"] for e in picker.endpoints()] == ["healthy", "healthy"], "the second engine")
    path.write_text("endpoints: [{name: x, address: 127.0.0.1, port: seven}]\n")
    wait_until(lambda: "the last good set stays" in picker.log(), "the bad file is refused")
    assert len(picker.endpoints()) == 2
    line = next(line for line in picker.log().splitlines() if "the last good set stays" in line)
    assert "endpoints.yaml:1" in line and "port" in line
    path.write_text(endpoints_yaml(two.url))
    wait_until(lambda: [e["url"] for e in picker.endpoints()] == [two.url], "only the second")
    one.close(), two.close()


def test_a_file_that_is_not_watched_is_read_once(start, tmp_path):
    engine = ScriptedEngine(MODEL, {})
    path = tmp_path / "endpoints.yaml"
    path.write_text(endpoints_yaml(engine.url))
    picker = start.epp("--config-text", DISCOVERY.format(path=path, watch="false"), tokenizer=False)
    picker.wait_ready()
    path.write_text("nonsense: [")
    before = picker.metric("warmpath_file_reloads_total") or 0
    wait_until(lambda: picker.get("/metrics").status_code == 200, "alive")
    assert (picker.metric("warmpath_file_reloads_total") or 0) == before == 0
    engine.close()


POLICIES = """
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {{name: canary}}
spec:
  poolRef: {{name: pool}}
  rules:
  - matches: [{{model: {{type: Exact, value: food-review}}}}]
    targets: [{{modelRewrite: {model}}}]
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {{name: batch}}
spec: {{poolRef: {{name: pool}}, priority: -1}}
"""


def test_models_are_rewritten_by_policy(start, tmp_path):
    engine = ScriptedEngine(MODEL, {"/v1/completions": lambda handler, body: handler.reply(200, "application/json", b"{}")})
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES.format(model=MODEL))
    picker = start.epp("--policy-file", path, engines=[engine.url + ",events=none"], tokenizer=False)
    picker.wait_ready()
    front = start.envoy(picker)
    body = b'{"prompt":"x", "model": "food-review", "seed": 9007199254740993}'
    answer = httpx.post(front.url + "/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert engine.requests[-1][2] == body.replace(b"food-review", MODEL.encode())
    assert picker.metric("llm_d_epp_model_rewrite_decisions_total", model_rewrite_name="canary") == 1
    assert picker.metric("llm_d_epp_request_total", model_name="food-review", target_model_name=MODEL) == 1
    engine.close()


SATURATED = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: concurrency-detector
  parameters: {maxConcurrency: 1}
flowControl:
  saturationDetector: {pluginRef: concurrency-detector}
"""


def test_sheddable_requests_are_shed_under_load(start, tmp_path):
    sim = start.sim("--sim-inter-token-latency", "50ms")
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES.format(model=MODEL))
    picker = start.epp("--policy-file", path, "--config-text", SATURATED, engines=sim.engines(), tokenizer=False)
    picker.wait_ready()
    front = start.envoy(picker)
    slow = {"model": MODEL, "prompt": "x", "max_tokens": 300, "stream": True, "ignore_eos": True}
    with httpx.stream("POST", front.url + "/v1/completions", json=slow, timeout=30) as answer:
        stream = answer.iter_bytes()
        next(stream)
        quick = {"model": MODEL, "prompt": "y", "max_tokens": 1}
        shed = httpx.post(front.url + "/v1/completions", json=quick, headers={"x-llm-d-inference-objective": "batch"})
        assert shed.status_code == 429 and shed.headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
        assert httpx.post(front.url + "/v1/completions", json=quick, timeout=30).status_code == 200


# ---- conformance suite: what an endpoint picker must do

def conformance(start, *engines):
    picker = start.epp("--conformance-test-headers", engines=[e.url + ",events=none" for e in engines], tokenizer=False)
    picker.wait_ready()
    wait_until(lambda: all(e["state"] == "healthy" for e in picker.endpoints()), "all healthy")
    return picker


def echo_engines(count):
    answer = {"/v1/completions": lambda handler, body: handler.reply(200, "application/json", b"{}")}
    return [ScriptedEngine(MODEL, answer) for _ in range(count)]


def test_conformance_endpoint_selection(start):
    engines = echo_engines(3)
    front = start.envoy(conformance(start, *engines))
    for chosen in ([0], [1, 2], [0, 1, 2]):
        before = [len(e.requests) for e in engines]
        names = ",".join(engines[i].url.removeprefix("http://") for i in chosen) + ",10.0.0.9:1"
        for i in range(30):
            body = {"model": "conformance-fake-model", "prompt": f"{chosen} {i}"}
            answer = httpx.post(front.url + "/v1/completions", json=body, headers={"test-epp-endpoint-selection": names})
            assert answer.status_code == 200, answer.text
        served = {i for i, engine in enumerate(engines) if len(engine.requests) > before[i]}
        assert served == set(chosen)
    assert httpx.post(front.url + "/v1/completions", json={"model": "any", "prompt": "x"}, headers={"test-epp-endpoint-selection": "127.0.0.1"}).status_code == 200
    for engine in engines:
        engine.close()


def test_conformance_served_endpoint(start):
    engines = echo_engines(2)
    addresses = [e.url.removeprefix("http://") for e in engines]
    picker = conformance(start, *engines)
    front = start.envoy(picker, name="override-host", engines=addresses)
    answer = httpx.post(front.url + "/v1/completions", json={"model": "conformance-fake-model", "prompt": "x"},
                        headers={"test-epp-endpoint-selection": addresses[1]})
    assert answer.headers["x-conformance-test-served-endpoint"] == addresses[1]
    plain = start.envoy(picker)
    answer = httpx.get(plain.url + "/v1/models")
    assert answer.status_code == 200
    assert answer.headers["x-conformance-test-served-endpoint"].startswith("fail")
    for engine in engines:
        engine.close()


def test_test_headers_mean_nothing_without_the_flag(start):
    engines = echo_engines(2)
    picker = start.epp(engines=[e.url + ",events=none" for e in engines], tokenizer=False)
    picker.wait_ready()
    front = start.envoy(picker)
    for _ in range(20):
        answer = httpx.post(front.url + "/v1/completions", json={"model": MODEL, "prompt": "x"}, headers={"test-epp-endpoint-selection": "10.0.0.9:1"})
        assert answer.status_code == 200 and "x-conformance-test-served-endpoint" not in answer.headers
    for engine in engines:
        engine.close()


# ---- metrics and documents

def test_every_metric_of_llm_d_is_emitted_or_listed_as_absent(start, tmp_path):
    """The names stand in the generated document; what it calls emitted must be on the page of a picker that has served."""
    document = (ROOT / "docs/llm-d-compatibility.md").read_text()
    section = document[document.index("## Metrics"):]
    rows = re.findall(r"^\| `(llm_d_epp_\w+)` \| ([^|]+?) \|", section, re.M)
    assert len(rows) > 60
    emitted = {name for name, state in rows if state == "emitted"}
    assert len(emitted) > 40

    sim = start.sim("--sim-inter-token-latency", "1us")
    policies = tmp_path / "policies.yaml"
    policies.write_text(POLICIES.format(model=MODEL))
    broken = ScriptedEngine(MODEL, {}, metrics=b"vllm:num_requests_running{oops 1\n")
    odd = [f"{broken.url},events=tcp://{broken.url.removeprefix('http://')}", f"http://127.0.0.1:{free_port()},events=none"]
    common = ["--policy-file", policies, "--enable-grpc-stream-metrics", "--deprecated-metric-names"]
    precise = start.epp("--config-file", ROOT / "deploy/config/precise-prefix.yaml", *common, engines=[*sim.engines(), *odd])
    default = start.epp(*common, engines=[endpoint_flag(sim.engines()[0]), *odd], tokenizer=False)
    page = ""
    for picker in (precise, default):
        picker.wait_ready()
        front = start.envoy(picker, edit=envoy.subset_from_header)
        only = {"x-test-subset": sim.engines()[0]["url"].removeprefix("http://")}
        for stream in (False, True):
            body = {"model": "food-review", "prompt": GUIDE_PROMPT, "max_tokens": 5, "stream": stream,
                    **({"stream_options": {"include_usage": True}} if stream else {})}
            assert httpx.post(front.url + "/v1/completions", json=body, headers=only, timeout=30).status_code == 200
        assert httpx.post(front.url + "/v1/completions", json={"model": "nobody", "prompt": "x"}, headers=only, timeout=30).status_code in (404, 503)
        wait_until(lambda: picker.metric("llm_d_epp_request_running") == 0, "served")
        wait_until(lambda: picker.blocks() >= 3, "blocks by events")
        page += picker.get("/metrics").text
    broken.close()
    declared = set(re.findall(r"^# TYPE (\S+)", page, re.M))
    declared |= {name + "_total" for name in declared}
    missing = emitted - declared
    assert missing == set(), sorted(missing)
    known = {name for name, _ in rows}
    ours = {name for name in declared if name.startswith("llm_d_epp_") and not name.endswith("_total_total")}
    assert {name.removesuffix("_total") for name in ours} <= {name.removesuffix("_total") for name in known}
    old = {"inference_objective_request_total", "inference_pool_average_queue_size", "inference_extension_scheduler_e2e_duration_seconds"}
    assert old <= declared


def test_the_compatibility_document_is_the_programs_own():
    done = run("config", "compatibility")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (ROOT / "docs/llm-d-compatibility.md").read_text(), "run: build/bin/warmpath config compatibility > docs/llm-d-compatibility.md"
    assert "| missing |" not in done.stdout
