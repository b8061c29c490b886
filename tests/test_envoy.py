"""The endpoint picker behind the real Envoy: bodies of every size and kind, subsets, drains, and every failure of the matrix."""

import concurrent.futures
import contextlib
import json
import random
import signal
import socket
import threading
import time

import httpx
import psutil
import pytest

import envoy
from engines import ScriptedEngine
from harness import DEADLINE, GUIDE_PROMPT, MODEL, free_port, wait_until

FAST = ["--sim-inter-token-latency", "1us", "--sim-prefill-overhead", "1us", "--sim-prefill-per-token", "0us"]
MIB = 1 << 20


def address(engine):
    return engine["url"].removeprefix("http://")


def post(url, body, path="/v1/completions", **kwargs):
    content = body if isinstance(body, (bytes, str)) else json.dumps(body)
    headers = {"content-type": "application/json", **kwargs.pop("headers", {})}
    return httpx.post(url + path, content=content, headers=headers, timeout=kwargs.pop("timeout", 60), **kwargs)


def completion(prompt="Hello there.", **more):
    return {"model": MODEL, "prompt": prompt, "max_tokens": 2, **more}


def in_flight(picker):
    return picker.metric("llm_d_epp_request_running") or 0


@pytest.fixture(scope="module")
def stack(start_shared):
    """Two engines, a picker, an Envoy that turns x-test-subset into the subset hint."""
    sim = start_shared.sim(*FAST, count=2)
    picker = start_shared.epp("-v", 4, "--enable-grpc-stream-metrics", engines=sim.engines())
    picker.wait_ready().wait_events(2)
    front = start_shared.envoy(picker, edit=envoy.subset_from_header)
    return sim.engines(), picker, front


# ---- the committed bootstraps

@pytest.mark.parametrize("name", ["epp", "epp-tls", "override-host"])
def test_bootstrap_is_valid(tmp_path, name):
    config = envoy.bootstrap(name)
    if name == "epp-tls":
        authority = tmp_path / "ca.crt"
        authority.write_text(open("/etc/ssl/certs/ca-certificates.crt").read())
        context = envoy.cluster(config, "epp")["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
        context["trusted_ca"]["filename"] = str(authority)
    accepted, output = envoy.validate(config, tmp_path)
    assert accepted, output


# ---- requests

def test_chat(stack):
    _, picker, front = stack
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}
    answer = post(front.url, body, "/v1/chat/completions", headers={"x-request-id": "chat-1"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 8
    record = picker.get("/api/v1/requests/chat-1").json()
    assert record["status"] == 200 and record["delivered_cached_tokens"] is not None
    wait_until(lambda: in_flight(picker) == 0, "nothing in flight")


def test_get_goes_to_an_engine(stack):
    _, _, front = stack
    answer = httpx.get(front.url + "/v1/models")
    assert answer.status_code == 200 and answer.json()["data"][0]["id"] == MODEL


def test_answers_are_the_engines_bytes(stack):
    engines, _, front = stack
    body = completion("Ten thousand tokens, please.", max_tokens=10_000, stream=True, stream_options={"include_usage": True}, ignore_eos=True, seed=1)

    def events(url):
        text = post(url, body).text
        lines = [line for line in text.split("\n\n") if line]
        return [json.loads(line.removeprefix("data: "))["choices"] for line in lines[:-1]], lines[-1]

    direct, through = events(engines[0]["url"]), events(front.url)
    assert through == direct
    assert len(direct[0]) > 10_000 and direct[1] == "data: [DONE]"


def test_a_scripted_stream_arrives_byte_for_byte(start):
    parts = [b"data: {\"x\":\"%d\"}\n\n" % i + b"\xf0\x9f" if i % 7 == 3 else b"data: \r\n" + bytes([i % 256]) * i for i in range(300)]
    engine = ScriptedEngine(MODEL, {"/v1/completions": lambda handler, body: handler.chunks("text/event-stream", parts)})
    with contextlib.closing(engine):
        picker = start.epp(engines=[engine.url + ",events=none"], tokenizer=False)
        picker.wait_ready()
        front = start.envoy(picker)
        assert post(front.url, completion(stream=True)).content == b"".join(parts)


def test_bodies_reach_the_engine_byte_for_byte_without_control_headers(start):
    engine = ScriptedEngine(MODEL, {"/v1/completions": lambda handler, body: handler.reply(200, "application/json", b"{}", [("x-engine", "1")])})
    with contextlib.closing(engine):
        picker = start.epp(engines=[engine.url + ",events=none"], tokenizer=False)
        picker.wait_ready()
        front = start.envoy(picker)
        body = b'{ "prompt":"\\u00e4 \xc3\xa4", "seed": 9007199254740993, "model" : "%s" ,"z":1e2}' % MODEL.encode()
        control = {name: "10.9.9.9:1" for name in (
            "x-gateway-destination-endpoint-subset", "x-gateway-destination-endpoint-served", "x-prefiller-host-port", "x-encoder-hosts-ports",
            "x-data-parallel-host-port", "x-kv-cache-source-host-port", "x-llm-d-request-dropped-reason", "x-session-token",
            "x-gateway-destination-endpoint-scores", "x-llm-d-model-name-rewrite-unknown")}
        trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b", "baggage": "k=v"}
        answer = post(front.url, body, headers={**control, **trace, "x-request-id": "bytes-1"})
        assert answer.status_code == 200 and answer.headers["x-engine"] == "1"
        assert not [name for name in answer.headers if name.startswith(("x-went", "x-warmpath", "x-gateway", "x-llm-d"))]
        path, headers, received = engine.requests[-1]
        headers = {name.lower(): value for name, value in headers.items()}
        assert received == body
        assert headers["x-request-id"] == "bytes-1"
        assert {name: headers.get(name) for name in trace} == trace
        assert headers["x-gateway-destination-endpoint"] == engine.url.removeprefix("http://")
        leaked = set(control) & set(headers)
        assert leaked <= {"x-llm-d-model-name-rewrite-unknown"}, leaked


def test_a_request_id_is_made_where_there_is_none(stack):
    _, picker, front = stack
    before = len(picker.pod_scores())
    assert post(front.url, completion("No id here.")).status_code == 200
    wait_until(lambda: len(picker.pod_scores()) > before, "its score line")


@pytest.mark.parametrize("body, status, words", [
    (b"", 400, "body"),
    (b"not json", 400, "JSON"),
    (b"[1]", 400, "object"),
    (b'{"model":"%s"}' % MODEL.encode(), 400, "prompt"),
    (b'{"model":"no-such-model","prompt":"x"}', 404, "no-such-model"),
])
def test_what_cannot_be_routed_is_answered_in_openais_shape(stack, body, status, words):
    _, _, front = stack
    answer = post(front.url, body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert words in error["message"] and error["type"]
    assert answer.headers["content-type"].startswith("application/json")


def test_a_chunked_upload(stack):
    _, _, front = stack
    text = json.dumps(completion("word " * 50_000, max_tokens=1)).encode()
    pieces = (text[i:i + 777] for i in range(0, len(text), 777))
    answer = httpx.post(front.url + "/v1/completions", content=pieces, headers={"content-type": "application/json"}, timeout=60)
    assert answer.status_code in (200, 400)  # the engine's own length limit
    assert "maximum" in answer.text or answer.status_code == 200


def test_a_slow_upload_is_tokenized_while_it_arrives(stack):
    _, picker, front = stack
    draw = random.Random(5)
    words = " ".join(draw.choice(["international", "understanding", "responsibility", "communication"]) for _ in range(10_000))
    body = json.dumps({"model": MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": words}]}).encode()

    def pieces():
        # Most of it; then a little again and again, until it has been looked at.
        at = len(body) - 20_000
        yield body[:at]
        end = time.monotonic() + DEADLINE
        while picker.metric("warmpath_foreseen_text_bytes_total") < 50_000 and time.monotonic() < end:
            yield body[at:at + 5]
            at += 5
        yield body[at:]
    answer = httpx.post(front.url + "/v1/chat/completions", content=pieces(), headers={"content-type": "application/json"}, timeout=60)
    assert answer.status_code == 200 and answer.json()["usage"]["prompt_tokens"] > 10_000, answer.text
    assert picker.metric("warmpath_foreseen_text_bytes_total") >= 50_000
    assert not picker.metric("warmpath_token_parity_mismatches_total")


def big_engine():
    return ScriptedEngine(MODEL, {"/v1/completions": lambda handler, body: handler.reply(200, "application/json", b'{"length":%d}' % len(body))})


def padded(size):
    head = b'{"model":"%s","prompt":[1,2,3],"pad":"' % MODEL.encode()
    return head + b"x" * (size - len(head) - 2) + b'"}'


def test_sixty_four_mebibytes_pass_and_one_more_does_not(start):
    engine = big_engine()
    with contextlib.closing(engine):
        picker = start.epp("--max-buffered-bytes", "256MiB", engines=[engine.url + ",events=none"], tokenizer=False)
        picker.wait_ready()
        front = start.envoy(picker)
        answer = post(front.url, padded(64 * MIB))
        assert answer.status_code == 200 and answer.json()["length"] == 64 * MIB, answer.text[:200]
        answer = post(front.url, padded(65 * MIB))
        assert answer.status_code == 413, answer.text[:200]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: post(front.url, padded(64 * MIB), timeout=120), range(4)))
        assert [a.status_code for a in answers] == [200] * 4
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: post(front.url, padded(63 * MIB), timeout=120), range(6)))
        assert {a.status_code for a in answers} <= {200, 503}
        # Beside the bodies themselves: one parse at a time per thread, and what the program needs anyway.
        assert psutil.Process(picker.popen.pid).memory_info().rss < 1100 * MIB
        assert post(front.url, completion()).status_code == 200


def test_twenty_thousand_requests_over_one_connection(stack):
    engines, picker, front = stack
    failures = []

    def worker(count):
        with httpx.Client() as client:
            for _ in range(count):
                answer = client.get(front.url + "/version", timeout=30)
                if answer.status_code != 200:
                    failures.append(answer.status_code)

    def reset_count():
        return front.ext_proc_stat("streams_started")

    before = reset_count()
    threads = [threading.Thread(target=worker, args=(5000,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert reset_count() - before == 20_000
    assert front.ext_proc_stat("streams_failed") == 0
    assert front.stats()["cluster.epp.upstream_cx_total"] == 1
    assert "error" not in picker.log().lower().replace("errors", "")


# ---- subsets

def served_by(picker, request_id):
    return picker.get(f"/api/v1/requests/{request_id}").json()["chosen"]


def test_a_subset_is_kept_to(stack):
    engines, picker, front = stack
    only = address(engines[1])

    def one(i):
        answer = post(front.url, completion(f"Subset {i % 5}."), headers={"x-test-subset": only, "x-request-id": f"subset-{i}"})
        return answer.status_code, served_by(picker, f"subset-{i}")

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        results = set(pool.map(one, range(100)))
    assert results == {(200, only)}


def test_a_get_keeps_to_the_subset_too(stack):
    engines, _, front = stack
    for engine in engines:
        answer = httpx.get(front.url + "/debug/kv", headers={"x-test-subset": address(engine)})
        assert answer.status_code == 200


@pytest.mark.parametrize("subset", ["10.1.2.3:8000", "127.0.0.1:1"])
def test_a_subset_of_strangers_is_503(stack, subset):
    _, _, front = stack
    answer = post(front.url, completion(), headers={"x-test-subset": subset})
    assert answer.status_code == 503
    assert answer.headers["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"
    assert "error" in answer.json()


# ---- clients do not choose

class Canary:
    """A listener that must hear nothing."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"

    def was_dialled(self):
        try:
            self.socket.accept()[0].close()
            return True
        except BlockingIOError:
            return False


def attack(url, canary):
    headers = {name: canary.address for name in (
        "x-gateway-destination-endpoint", "x-gateway-destination-endpoint-subset", "x-prefiller-host-port", "x-encoder-hosts-ports",
        "x-data-parallel-host-port", "x-kv-cache-source-host-port", "X-Gateway-Destination-Endpoint-Served")}
    return [post(url, completion(), headers=headers).status_code, httpx.get(url + "/v1/models", headers=headers).status_code]


def fail_open(config):
    envoy.ext_proc(config)["failure_mode_allow"] = True


@pytest.mark.parametrize("edit", [None, fail_open])
def test_a_client_cannot_name_a_destination(start, stack, edit):
    _, picker, _ = stack
    canary = Canary()
    up = start.envoy(picker, edit=edit)
    assert attack(up.url, canary) == [200, 200]
    down = start.envoy(f"127.0.0.1:{free_port()}", edit=edit)
    assert all(status >= 500 for status in attack(down.url, canary))
    assert not canary.was_dialled()


def test_a_client_cannot_name_a_destination_with_the_fallback_list(start, stack):
    engines, _, _ = stack
    canary = Canary()
    down = start.envoy(f"127.0.0.1:{free_port()}", name="override-host", engines=[address(e) for e in engines])
    # A body that was sent before the refusal came cannot be taken back: Envoy then answers 500.
    sent, bodiless = attack(down.url, canary)
    assert sent in (200, 500) and bodiless == 200
    assert not canary.was_dialled()


# ---- the failure matrix

def test_no_picker_fail_closed(start, stack):
    engines, _, _ = stack
    front = start.envoy(f"127.0.0.1:{free_port()}")
    answer = post(front.url, completion())
    assert answer.status_code == 500
    assert front.stats().get("cluster.model_servers.upstream_rq_total", 0) == 0


def open_request(url, body, length=None):
    """A connection that has sent the head and `body` of a POST that says it is `length` bytes long."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body) if length is None else length}\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode() + body)
    connection.settimeout(DEADLINE)
    return connection


def read_answer(connection):
    out = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            out += data
    return out


def without_picker(front):
    """A POST whose body follows once Envoy gave up on the picker: until then it would be lost with the attempt."""
    body = json.dumps(completion()).encode()
    connection = open_request(front.url, b"", len(body))
    wait_until(lambda: front.ext_proc_stat("failure_mode_allowed") == 1, "Envoy goes on without the picker")
    connection.sendall(body)
    head, _, rest = read_answer(connection).partition(b"\r\n\r\n")
    return int(head.split()[1]), rest


def test_no_picker_fail_open_with_a_fallback_list(start, stack):
    engines, _, _ = stack
    front = start.envoy(f"127.0.0.1:{free_port()}", name="override-host", engines=[address(e) for e in engines])
    assert without_picker(front)[0] == 200


def test_no_picker_fail_open_without_one(start):
    front = start.envoy(f"127.0.0.1:{free_port()}", edit=fail_open)
    status, body = without_picker(front)
    assert status == 503 and b"no healthy upstream" in body


def streams(picker):
    return picker.metric("llm_d_epp_extproc_streams_inflight") or 0


def test_picker_killed_in_the_middle_of_a_body(start, stack):
    engines, _, _ = stack
    picker = start.epp("--enable-grpc-stream-metrics", engines=engines)
    picker.wait_ready()
    front = start.envoy(picker, name="override-host", engines=[address(e) for e in engines])
    text = json.dumps(completion("x" * 200_000)).encode()
    connection = open_request(front.url, text[:100_000], len(text))
    wait_until(lambda: streams(picker) == 1, "the picker has the request")
    wait_until(lambda: front.ext_proc_stat("stream_msgs_sent") >= 2, "a part of the body was sent")
    picker.kill()
    connection.settimeout(DEADLINE)
    assert read_answer(connection).startswith(b"HTTP/1.1 500")


SLOW = ["--sim-inter-token-latency", "20ms"]


def test_picker_killed_in_the_middle_of_an_answer(start):
    sim = start.sim(*SLOW)
    picker = start.epp(engines=sim.engines())
    picker.wait_ready()
    front = start.envoy(picker)
    body = completion("Slowly.", max_tokens=500, stream=True, ignore_eos=True)
    with pytest.raises(httpx.RemoteProtocolError):
        with httpx.stream("POST", front.url + "/v1/completions", json=body, timeout=30) as answer:
            assert answer.status_code == 200
            for i, _ in enumerate(answer.iter_bytes()):
                if i == 3:
                    picker.kill()


def test_a_picker_started_again_is_used_again(start, stack):
    engines, _, _ = stack
    port = free_port()
    flags = ["--grpc-port", port]
    picker = start.epp(*flags, engines=engines)
    picker.wait_ready()
    front = start.envoy(picker)
    assert post(front.url, completion()).status_code == 200
    picker.kill()
    assert post(front.url, completion()).status_code == 500
    start.epp(*flags, engines=engines).wait_ready()
    wait_until(lambda: post(front.url, completion()).status_code == 200, "requests work again")


def test_a_drain_fails_no_request(start):
    sim = start.sim("--sim-inter-token-latency", "5ms")
    picker = start.epp("--drain-timeout", "20s", "--health-checking", engines=sim.engines())
    other = start.epp(engines=sim.engines(), tokenizer=False)
    picker.wait_ready(), other.wait_ready()

    def two_pickers(config):
        cluster = envoy.cluster(config, "epp")
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].append(envoy.endpoint(other.listeners["grpc"]))
        cluster["health_checks"] = [{"timeout": "2s", "interval": "0.2s", "no_traffic_interval": "0.2s", "unhealthy_threshold": 1, "healthy_threshold": 1,
                                     "grpc_health_check": {"service_name": "envoy.service.ext_proc.v3.ExternalProcessor"}}]

    other_health = start.epp("--health-checking", engines=sim.engines(), tokenizer=False)
    other = other_health
    other.wait_ready()
    front = start.envoy(picker, edit=two_pickers)
    results, stop = [], threading.Event()

    def worker():
        while not stop.is_set():
            results.append(post(front.url, completion(max_tokens=20, stream=True)).status_code)

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(results) > 10, "traffic")
    picker.signal(signal.SIGTERM)
    marks = len(results)
    wait_until(lambda: front.stats().get("cluster.epp.membership_healthy") == 1, "Envoy took the draining picker out")
    wait_until(lambda: len(results) > marks + 20, "traffic after it")
    stop.set()
    for thread in threads:
        thread.join()
    assert set(results) == {200}
    assert picker.popen.wait(DEADLINE) == 0


def test_pick_refuses_the_connection_without_fallback(start):
    port = free_port()
    engine = ScriptedEngine(MODEL, {})
    picker = start.epp(engines=[engine.url + ",events=none"], tokenizer=False)
    picker.wait_ready()
    front = start.envoy(picker)
    engine.close()
    answer = post(front.url, completion())
    assert answer.status_code == 503
    assert port


FALLBACKS = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: max-score-picker
  parameters: {maxNumOfEndpoints: 2}
"""


def test_pick_refuses_the_connection_with_fallback(start):
    def answers(name):
        return {"/v1/completions": lambda handler, body: handler.reply(200, "application/json", b'{"by":"%s"}' % name)}

    gone, alive = ScriptedEngine(MODEL, answers(b"gone")), ScriptedEngine(MODEL, answers(b"alive"))
    engines = [gone.url.removeprefix("http://"), alive.url.removeprefix("http://")]
    # The picker believes both are there: the one that is gone is asked for its health at a port that answers.
    picker = start.epp("--config-text", FALLBACKS, "--conformance-test-headers", engines=[gone.url + ",events=none", alive.url + ",events=none"],
                       tokenizer=False)
    picker.wait_ready()
    wait_until(lambda: all(e["state"] == "healthy" for e in picker.endpoints()), "both healthy")
    front = start.envoy(picker, name="override-host", engines=engines)
    gone.close()
    # The first request comes before the picker notices; whichever it names first, the answer is the living one's.
    seen = set()
    for i in range(6):
        answer = post(front.url, completion(), headers={"x-request-id": f"fallback-{i}"})
        assert answer.status_code == 200 and answer.json()["by"] == "alive"
        seen.add(answer.headers.get("x-conformance-test-served-endpoint"))
    assert seen == {engines[1]}
    alive.close()


def test_no_engine_is_503_with_the_reason(start):
    picker = start.epp(engines=[f"http://127.0.0.1:{free_port()},events=none"], tokenizer=False)
    wait_until(lambda: picker.endpoints()[0]["state"] == "unhealthy", "the engine is known to be gone")
    front = start.envoy(picker)
    for answer in (post(front.url, completion()), httpx.get(front.url + "/v1/models")):
        assert answer.status_code == 503
        assert answer.headers["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"
        assert answer.json()["error"]["message"]


def test_clients_that_leave_release_what_was_booked(start):
    sim = start.sim(*SLOW)
    picker = start.epp("--enable-grpc-stream-metrics", engines=sim.engines())
    picker.wait_ready()
    front = start.envoy(picker)
    # Before the pick: half a body.
    text = json.dumps(completion("x" * 1000)).encode()
    connection = open_request(front.url, text[:500], len(text))
    wait_until(lambda: streams(picker) == 1, "the picker has the request")
    connection.close()
    wait_until(lambda: streams(picker) == 0, "the stream is gone")
    # After it: in the middle of a stream.
    body = completion("Slowly.", max_tokens=500, stream=True, ignore_eos=True)
    with httpx.stream("POST", front.url + "/v1/completions", json=body, timeout=30) as answer:
        stream = answer.iter_bytes()
        next(stream)
        assert in_flight(picker) == 1
    wait_until(lambda: in_flight(picker) == 0 and streams(picker) == 0, "nothing in flight")


def test_an_h2c_pool(start):
    """Envoy speaks HTTP/2 to the engines when the pool says so; the picker makes no difference. Another Envoy plays the engine."""
    def direct(config):
        route = envoy.manager(config)["route_config"]["virtual_hosts"][0]["routes"][0]
        del route["route"]
        route["direct_response"] = {"status": 200, "body": {"inline_string": "%s" % "{}"}}
        envoy.manager(config)["http_filters"] = [f for f in envoy.manager(config)["http_filters"] if "router" in f["name"]]

    engine = start.envoy("127.0.0.1:1", edit=direct)
    picker = start.epp(engines=[engine.url + ",events=none"], tokenizer=False)
    picker.wait_ready()

    def h2c(config):
        options = envoy.cluster(config, "epp")["typed_extension_protocol_options"]
        envoy.cluster(config, "model_servers")["typed_extension_protocol_options"] = options

    front = start.envoy(picker, edit=h2c)
    before = engine.stats().get("http.inference.downstream_rq_http2_total", 0)
    assert post(front.url, completion()).status_code == 200
    assert engine.stats()["http.inference.downstream_rq_http2_total"] == before + 1


# ---- the other processing modes

@pytest.mark.parametrize("request_mode, response_mode", [("STREAMED", "STREAMED"), ("BUFFERED", "BUFFERED"), ("BUFFERED", "STREAMED"),
                                                         ("FULL_DUPLEX_STREAMED", "NONE")])
def test_other_processing_modes(start, stack, request_mode, response_mode):
    _, picker, _ = stack

    def edit(config):
        mode = envoy.ext_proc(config)["processing_mode"]
        mode["request_body_mode"], mode["response_body_mode"] = request_mode, response_mode
        if "FULL" not in request_mode:
            mode["request_trailer_mode"] = "SKIP"
        mode["response_trailer_mode"] = "SEND" if "FULL" in response_mode else "SKIP"

    front = start.envoy(picker, edit=edit)
    assert post(front.url, completion(GUIDE_PROMPT, max_tokens=5)).status_code == 200
    streamed = post(front.url, completion(GUIDE_PROMPT, max_tokens=50, stream=True)).text
    assert streamed.endswith("data: [DONE]\n\n")
    assert httpx.get(front.url + "/v1/models").status_code == 200
    assert post(front.url, b"{").status_code == 400
    assert front.ext_proc_stat("streams_failed") == 0
    assert front.ext_proc_stat("spurious_msgs_received") == 0
    wait_until(lambda: in_flight(picker) == 0, "nothing in flight")


# ---- TLS

def certificate(directory, name="localhost"):
    """ca.crt, and tls.crt and tls.key for `name` signed by it."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.timezone.utc)

    def build(subject, issuer, key, signer, authority):
        builder = (x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
                   .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
                   .not_valid_after(now + datetime.timedelta(days=1)).add_extension(x509.BasicConstraints(authority, None), True))
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), False)
        return builder.sign(signer, hashes.SHA256())

    def pem(item):
        return item.public_bytes(serialization.Encoding.PEM)

    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (directory / "ca.crt").write_bytes(pem(build("test authority", "test authority", root, root, True)))
    (directory / "tls.key").write_bytes(leaf.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    (directory / "tls.crt").write_bytes(pem(build(name, "test authority", leaf, root, False)))


def test_tls_is_verified_and_reloaded(start, stack, tmp_path):
    engines, _, _ = stack
    certificate(tmp_path)
    picker = start.epp("--cert-path", tmp_path, "--enable-cert-reload", "--health-checking", engines=engines, secure=True)
    picker.wait_ready()

    def trust(config):
        context = envoy.cluster(config, "epp")["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
        authority = tmp_path / f"trusted{free_port()}.crt"
        authority.write_bytes((tmp_path / "ca.crt").read_bytes())
        context["trusted_ca"]["filename"] = str(authority)
        envoy.cluster(config, "epp")["health_checks"][0].update(interval="0.2s", no_traffic_interval="0.2s")

    first = start.envoy(picker, name="epp-tls", edit=trust)
    wait_until(lambda: post(first.url, completion()).status_code == 200, "requests work")
    certificate(tmp_path)  # of another authority
    wait_until(lambda: "TLS certificate reloaded" in picker.log(), "the reload")
    second = start.envoy(picker, name="epp-tls", edit=trust)
    wait_until(lambda: post(second.url, completion()).status_code == 200, "the new certificate serves")
    assert post(first.url, completion()).status_code == 200  # the connection it has lives on


def test_self_signed_by_default(start, stack):
    engines, _, _ = stack
    picker = start.epp(engines=engines, secure=True)
    picker.wait_ready()

    def any_certificate(config):
        cluster = envoy.cluster(config, "epp")
        cluster["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"] = {"trust_chain_verification": "ACCEPT_UNTRUSTED"}
        del cluster["health_checks"]

    front = start.envoy(picker, name="epp-tls", edit=any_certificate)
    assert post(front.url, completion()).status_code == 200
