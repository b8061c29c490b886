"""The guide's walk: its request twice, the scores it prints, the numbers in the beat and in /metrics."""

import json
import re

import pytest

from harness import GUIDE_PROMPT, MODEL, ROOT, free_port, wait_until

CONFIG = ROOT / "deploy/config/guide-v0.5.yaml"


def flag_mode(start):
    sim = start.sim(count=2)
    router = start.serve("-v", 4, "--metrics-beat-interval", "200ms", engines=sim.engines())
    return router.wait_ready().wait_events(2)


def config_file_bind_mode(start):
    """The engines connect to the router, as the guide's charts set them up, and are told apart by their topics."""
    ports = [free_port(), free_port()]
    router = start.serve("-v", 4, "--metrics-beat-interval", "200ms", "--config-file", CONFIG, "--kv-events-bind", "tcp://127.0.0.1:0",
                         engines=[f"http://127.0.0.1:{port}" for port in ports])
    bound = re.search(r":(\d+)$", router.listeners["kv_events"]).group(1)
    for port in ports:
        start.sim(port=port, events={"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": f"tcp://127.0.0.1:{bound}",
                                     "topic": f"kv@127.0.0.1:{port}@{MODEL}"})
    router.wait_ready()
    wait_until(lambda: all(e["state"] == "healthy" for e in router.endpoints()), "both engines healthy")
    return router


def send(router, prompt):
    """Sends the guide's request with this prompt; returns the score line it caused."""
    before = len(router.pod_scores())
    answer = router.complete(prompt)
    assert answer.status_code == 200, answer.text
    return wait_until(lambda: router.pod_scores()[before:], "a score line")[0], answer.json()


@pytest.mark.parametrize("mode", [flag_mode, config_file_bind_mode])
def test_guide_numbers(start, mode):
    router = mode(start)
    addresses = {re.sub("^http://", "", e["url"]) for e in router.endpoints()}

    scores, answer = send(router, GUIDE_PROMPT)
    assert scores is None
    assert answer["usage"]["prompt_tokens"] == 192
    assert answer["usage"]["completion_tokens"] == 50
    wait_until(lambda: router.blocks() == 3, lambda: f"three blocks admitted: {router.endpoints()}")

    scores, answer = send(router, GUIDE_PROMPT)
    assert list(scores.values()) == [2] and set(scores) <= addresses
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 128

    family = "llm_d_epp_kv_cache_index_"
    expected = {"admissions": 3, "lookup_requests": 2, "lookup_hits": 2, "evictions": 0}
    for name, value in expected.items():
        assert (router.metric(f"{family}{name}_total") or 0) == value, name
    beat = re.compile(r'"metrics beat" logger="metrics" admissions=3 evictions=0 lookups=2 hits=2 latency_count=2 '
                      r"latency_sum=(\S+) latency_avg=(\S+)")
    latency_sum, latency_avg = map(float, wait_until(lambda: beat.search(router.log()), "the beat with these counters").groups())
    assert latency_sum > 0 and latency_avg == pytest.approx(latency_sum / 2, rel=1e-3, abs=2e-9)

    holder = next(iter(scores))
    assert send(router, GUIDE_PROMPT.replace("Lorem", "Dorem", 1))[0] is None
    assert send(router, GUIDE_PROMPT[:-len("laborum.")] + "labore!")[0] == {holder: 2}
    assert send(router, GUIDE_PROMPT + " And more.")[0] == {holder: 3}


def test_score_line_has_the_guides_fields(start):
    router = flag_mode(start)
    send(router, GUIDE_PROMPT)
    line = next(line for line in router.log().splitlines() if "Got pod scores" in line)
    time, level, _, caller, message, fields = line.split("\t")
    assert re.fullmatch(r"\w+/\w+\.cc:\d+", caller)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)
    assert level == "LEVEL(-4)"
    assert message == "Got pod scores"
    assert list(json.loads(fields)) == ["x-request-id", "model", "resolvedTargetModel", "criticality", "scores"]
    assert json.loads(fields)["criticality"] == "Sheddable"
