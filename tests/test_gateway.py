"""The gateway as clients see it: the OpenAI SDK, bytes relayed unchanged, errors, retries, limits."""

import json
import random
import re
import socket

import httpx
import openai
import pytest

from engines import ScriptedEngine
from harness import DEADLINE, GUIDE_PROMPT, MODEL, wait_until

MESSAGES = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "What is a warm cache? " * 40}]


@pytest.fixture(scope="module")
def client(fleet):
    return openai.OpenAI(base_url=fleet[1].url + "/v1", api_key="unused", max_retries=0)


def test_sdk_lists_the_fleets_models(client):
    assert [model.id for model in client.models.list()] == [MODEL]


def test_sdk_completion(client):
    answer = client.completions.create(model=MODEL, prompt=GUIDE_PROMPT, max_tokens=8)
    assert answer.usage.prompt_tokens == 192 and answer.usage.completion_tokens == 8
    assert answer.choices[0].finish_reason == "length" and answer.choices[0].text


def test_sdk_completion_streamed_equals_the_whole(client):
    whole = client.completions.create(model=MODEL, prompt="One two three", max_tokens=12, seed=7)
    chunks = list(client.completions.create(model=MODEL, prompt="One two three", max_tokens=12, seed=7, stream=True,
                                            stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 12


def test_sdk_chat(client):
    first = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8)
    assert first.choices[0].message.role == "assistant" and first.choices[0].message.content
    again = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8)
    assert again.choices[0].message.content == first.choices[0].message.content
    assert again.usage.prompt_tokens_details.cached_tokens == (again.usage.prompt_tokens - 1) // 64 * 64


def test_sdk_chat_streamed(client):
    chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "length"


def test_token_ids_as_prompt(client):
    answer = client.completions.create(model=MODEL, prompt=list(range(1000, 1200)), max_tokens=4)
    assert answer.usage.prompt_tokens == 200


@pytest.mark.parametrize("stream", [False, True])
def test_answer_equals_the_engines_own(fleet, stream):
    sim, router = fleet
    body = json.dumps({"model": MODEL, "prompt": "The same bytes, please.", "max_tokens": 16, "stream": stream}).encode()
    headers = {"Content-Type": "application/json", "X-Request-Id": "equal"}
    answers = [httpx.post(base + "/v1/completions", content=body, headers=headers, timeout=DEADLINE)
               for base in (router.url, sim.engines()[0]["url"])]
    through, direct = (re.sub(rb'"created":\s*\d+', b'"created":0', re.sub(rb'"id":\s*"[^"]*"', b'"id":""', a.content)) for a in answers)
    assert through == direct
    assert answers[0].headers["content-type"] == answers[1].headers["content-type"]


def test_decision_is_exposed_and_the_prediction_is_exact(fleet):
    _, router = fleet
    prompt = "Where does this go? " * 60
    first = router.complete(prompt, max_tokens=2)
    assert first.headers["x-warmpath-cached-tokens"] == "0"
    usable = (first.json()["usage"]["prompt_tokens"] - 1) // 64 * 64
    name = first.headers["x-warmpath-endpoint"]
    wait_until(lambda: router.get("/api/v1/index").json()["blocks"] > 0, "blocks indexed")

    def repeated():
        answer = router.complete(prompt, max_tokens=2)
        return answer if int(answer.headers["x-warmpath-cached-tokens"]) == usable else None

    again = wait_until(repeated, "the repeat is predicted to be cached")
    assert again.headers["x-warmpath-endpoint"] == name
    assert again.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == usable


def test_request_id_is_echoed_or_made(fleet):
    _, router = fleet
    body = {"model": MODEL, "prompt": "x", "max_tokens": 1}
    given = httpx.post(router.url + "/v1/completions", json=body, headers={"x-request-id": "my-own.id_1"})
    assert given.headers["x-request-id"] == "my-own.id_1"
    made = [httpx.post(router.url + "/v1/completions", json=body).headers["x-request-id"] for _ in range(2)]
    assert all(made) and made[0] != made[1]


@pytest.mark.parametrize("method, path, content, status", [
    ("POST", "/v1/completions", b"{not json", 400),
    ("POST", "/v1/completions", b"[1]", 400),
    ("POST", "/v1/completions", b'{"model":"no-such-model","prompt":"x"}', 404),
    ("GET", "/v1/no-such-path", b"", 404),
    ("POST", "/admin/faults", b"{}", 404),
])
def test_errors_have_openais_shape(fleet, method, path, content, status):
    _, router = fleet
    answer = httpx.request(method, router.url + path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert set(answer.json()["error"]) >= {"message", "type", "param", "code"}
    assert answer.json()["error"]["message"]


def test_engine_errors_pass_through(fleet):
    sim, router = fleet
    body = {"model": MODEL, "prompt": "x", "max_tokens": 10**9}
    through, direct = (httpx.post(base + "/v1/completions", json=body) for base in (router.url, sim.engines()[0]["url"]))
    assert (through.status_code, through.content) == (direct.status_code, direct.content)
    assert through.status_code == 400


def raw(url, data):
    """The status line a raw request gets."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE) as connection:
        connection.sendall(data)
        return connection.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize("head", [
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\nContent-Length: 2\r\n\r\n{}",
])
def test_ambiguous_framing_is_refused(fleet, head):
    status = raw(fleet[1].url, head)
    assert status.split()[1] in {b"400", b"501"}, status


def test_limits_on_head_and_body(start):
    router = start.serve("--max-request-body", "64KiB", engines=["http://127.0.0.1:9,events=none"], tokenizer=False)
    body = b'{"prompt":"' + b"x" * (65 << 10) + b'"}'
    answer = httpx.post(router.url + "/v1/completions", content=body, headers={"x-request-id": "too-big"})
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "request_too_large"
    assert answer.headers["x-request-id"] == "too-big"
    head = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n" + b"X-Long: " + b"y" * (1 << 20) + b"\r\n\r\n"
    try:
        assert raw(router.url, head).split()[1] in {b"431", b"400"}
    except ConnectionError:
        pass  # refused before the head was read to its end


def test_bodies_and_streams_are_relayed_byte_for_byte(start):
    frames = [b'data: {"choices":[{"text":"\\u00e9\xc3\xa9 "}]  }\n\n', b": comment\r\n\r\n", b"event: x\ndata: {}\n", b"\ndata: [DONE]\n\n"]
    engine = ScriptedEngine(MODEL, {"/v1/completions": lambda handler, body: handler.chunks("text/event-stream; charset=utf-8", frames)})
    try:
        router = start.serve(engines=[engine.url + ",events=none"], tokenizer=False).wait_ready()
        body = b'{ "model" : "Qwen/Qwen3-0.6B",\n\t"prompt":"\\u00e9", "stream":true, "unknown": [1.50, {"z":1,"a":2}] }  '
        answer = httpx.post(router.url + "/v1/completions", content=body,
                            headers={"Content-Type": "application/json", "Authorization": "Bearer secret-of-the-client"})
        assert answer.content == b"".join(frames)
        path, headers, sent = engine.requests[0]
        assert sent == body
        assert headers["Authorization"] == "Bearer secret-of-the-client"
        assert "secret-of-the-client" not in router.log()
    finally:
        engine.close()


def test_one_retry_elsewhere_before_the_first_byte(start):
    unwell = ScriptedEngine(MODEL, {"/v1/completions": lambda handler, body: handler.reply(503, "application/json", b'{"error":{}}')})
    well = ScriptedEngine(MODEL, {"/v1/completions": lambda handler, body: handler.reply(200, "application/json", b'{"ok":true}')})
    try:
        router = start.serve(engines=[unwell.url + ",events=none", well.url + ",events=none"], tokenizer=False)
        wait_until(lambda: all(e["state"] == "healthy" for e in router.endpoints()), "both healthy")
        answers = [router.complete(f"prompt {i}") for i in range(8)]
        assert [a.status_code for a in answers] == [200] * 8
        assert len(well.requests) == 8 and len(unwell.requests) >= 1
    finally:
        unwell.close()
        well.close()


def test_a_client_that_leaves_aborts_the_engines_work(start):
    sim = start.sim("--sim-inter-token-latency", "50ms", tokenizer=False)
    router = start.serve(engines=sim.engines(), tokenizer=False).wait_ready()
    running = lambda: sum(float(v) for v in re.findall(r"^vllm:num_requests_running\S* (\S+)", httpx.get(sim.engines()[0]["url"] + "/metrics").text, re.M))
    body = {"model": MODEL, "prompt": "x", "max_tokens": 400, "stream": True, "ignore_eos": True}
    with httpx.stream("POST", router.url + "/v1/completions", json=body, timeout=DEADLINE) as answer:
        lines = answer.iter_lines()  # kept: closing it would close the answer
        next(lines)
        wait_until(lambda: running() == 1, "the engine decodes")
    wait_until(lambda: running() == 0, "the engine stops decoding", 5)


def test_a_slow_upload_is_tokenized_while_it_arrives(fleet):
    _, router = fleet
    draw = random.Random(5)
    words = " ".join(draw.choice(["international", "understanding", "responsibility", "communication"]) for _ in range(10_000))
    body = json.dumps({"model": MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": words}]}).encode()
    mismatches = router.metric("warmpath_token_parity_mismatches_total")
    seen = lambda: router.metric("warmpath_foreseen_text_bytes_total")
    host, port = router.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        # Most of it; then a little again and again, until it has been looked at.
        at = len(body) - 20_000
        connection.sendall(body[:at])

        def looked_at():
            nonlocal at
            connection.sendall(body[at:at + 5])
            at += 5
            return seen() > 50_000
        wait_until(looked_at, "text foreseen")
        connection.sendall(body[at:])
        with connection.makefile("rb") as file:
            answer = file.read()
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:500]
    assert json.loads(answer[answer.index(b"{"):answer.rindex(b"}") + 1])["usage"]["prompt_tokens"] > 10_000
    assert router.metric("warmpath_token_parity_mismatches_total") == mismatches
