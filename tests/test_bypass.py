"""Answers that go past the picker, behind the real Envoy: by the picker's flag, and by Envoy's processing mode."""

import json
import time

import httpx
import pytest

import envoy
from harness import MODEL, run, wait_until

FAST = ["--sim-inter-token-latency", "1us", "--sim-prefill-overhead", "1us", "--sim-prefill-per-token", "0us"]
SLOW = ["--sim-inter-token-latency", "20ms", "--sim-prefill-overhead", "1us", "--sim-prefill-per-token", "0us"]
TOKENS = 200


def body(**more):
    return {"model": MODEL, "prompt": "Hello there.", "max_tokens": TOKENS, "ignore_eos": True, "seed": 1, "stream": True, **more}


def stream(url, request_id, **more):
    return httpx.post(url + "/v1/completions", json=body(**more), headers={"x-request-id": request_id}, timeout=60)


def texts(answer):
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: "))["choices"] for line in lines[:-1]]


def no_body(config):
    mode = envoy.ext_proc(config)["processing_mode"]
    mode.update(response_body_mode="NONE", response_trailer_mode="SKIP")


def nothing_of_the_answer(config):
    no_body(config)
    envoy.ext_proc(config)["processing_mode"]["response_header_mode"] = "SKIP"


def in_flight(picker):
    return sum(engine["inflight"]["requests"] for engine in picker.endpoints())


def messages(front):
    return front.ext_proc_stat("stream_msgs_received")


def settled(picker, front, direct, request_id):
    """One answer through Envoy is the engine's, costs no message per chunk, and its load goes when the engine is done."""
    before = messages(front)
    answer = stream(front.url, request_id)
    assert answer.status_code == 200 and texts(answer) == texts(stream(direct, "direct-" + request_id))
    assert messages(front) - before <= 4, "chunks came through the picker"
    wait_until(lambda: in_flight(picker) == 0, "the load is released")
    wait_until(lambda: not picker.metric("llm_d_epp_request_running"), "nothing is running")
    return picker.get(f"/api/v1/requests/{request_id}").json()


@pytest.mark.parametrize("pace", [FAST, SLOW], ids=["fast", "slow"])
def test_answers_go_past_the_picker(start, pace):
    sim = start.sim(*pace, count=1)
    picker = start.epp("--bypass-responses", engines=sim.engines())
    picker.wait_ready().wait_events(1)
    front = start.envoy(picker)
    record = settled(picker, front, sim.engines()[0]["url"], "past-1")
    assert record["answer_unseen"] is True and record["status"] is None and record["aborted"] is False
    assert record["first_byte_ms"] is None and record["delivered_cached_tokens"] is None
    card = picker.endpoints()[0]
    assert card["prediction"]["unseen_answers"] == 1 and card["prediction"]["requests"] == 0
    assert any(note["code"] == "unseen-answers" for note in card["notes"])
    assert "delivered tokens are not seen" in run("endpoints", "--server", picker.listeners["metrics"]).stdout
    assert not picker.metric("llm_d_epp_request_ttft_seconds_count")


def test_load_stays_while_the_engine_works(start):
    sim = start.sim(*SLOW, count=1)
    picker = start.epp("--bypass-responses", engines=sim.engines())
    picker.wait_ready().wait_events(1)
    front = start.envoy(picker)
    with httpx.stream("POST", front.url + "/v1/completions", json=body(), timeout=60) as answer:
        pieces = answer.iter_raw()  # let go of, it would close the answer
        next(pieces)
        begun = time.monotonic()
        while time.monotonic() - begun < 1.5:  # several scrapes, and less than half of the answer
            assert in_flight(picker) == 1
            time.sleep(0.05)
    wait_until(lambda: in_flight(picker) == 0, "the load is released")


def test_bodies_of_every_size_arrive_whole(start):
    sim = start.sim(*FAST, count=1)
    picker = start.epp("--bypass-responses", engines=sim.engines())
    picker.wait_ready()
    front = start.envoy(picker)
    for words in (1, 1_000, 20_000):
        answer = stream(front.url, f"size-{words}", prompt="word " * words, max_tokens=3, stream=False)
        assert answer.status_code == 200, answer.text
        direct = stream(sim.engines()[0]["url"], f"direct-{words}", prompt="word " * words, max_tokens=3, stream=False)
        assert answer.json()["usage"]["prompt_tokens"] == direct.json()["usage"]["prompt_tokens"]
    assert httpx.get(front.url + "/v1/models").status_code == 200
    assert stream(front.url, "no-model", model="nobody").status_code == 404
    wait_until(lambda: in_flight(picker) == 0, "the load is released")


def test_an_engine_that_dies_takes_its_load_along(start):
    sim = start.sim("--sim-inter-token-latency", "10s", count=1)
    picker = start.epp("--bypass-responses", engines=sim.engines())
    picker.wait_ready().wait_events(1)
    front = start.envoy(picker)
    with pytest.raises(httpx.HTTPError):
        httpx.post(front.url + "/v1/completions", json=body(), timeout=1)
    assert in_flight(picker) == 1
    sim.popen.kill()
    wait_until(lambda: in_flight(picker) == 0, "the load is released")


@pytest.mark.parametrize("mode", [no_body, nothing_of_the_answer], ids=["headers", "nothing"])
def test_envoys_mode_keeps_answers_to_itself(start, mode):
    sim = start.sim(*SLOW, count=1)
    picker = start.epp(engines=sim.engines())
    picker.wait_ready().wait_events(1)
    front = start.envoy(picker, edit=mode)
    record = settled(picker, front, sim.engines()[0]["url"], "mode-1")
    assert record["aborted"] is False and record["delivered_cached_tokens"] is None
    if mode is no_body:
        assert record["status"] == 200
    else:
        assert record["answer_unseen"] is True
