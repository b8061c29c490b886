"""Several replicas over the same engines: each dials their events itself, and they come to the same scores without speaking to each other."""

import time

import httpx
import pytest

from harness import MODEL, PARAGRAPH, ROOT

CONFIG = ROOT / "deploy/config/precise-prefix.yaml"
WITHIN = 2.0  # seconds from the last answer
BLOCKS = 6  # at least, of each prompt


def prompts(topic):
    return [f"{topic} {i}. " + PARAGRAPH * 4 for i in range(6)]


def view(replica, asked):
    """What this replica would score each prompt with, per engine."""
    out = []
    for prompt in asked:
        answer = httpx.post(replica.api + "/api/v1/explain?path=/v1/completions", json={"model": MODEL, "prompt": prompt}, timeout=10)
        assert answer.status_code == 200, answer.text
        out.append([(e["name"], e["matched_blocks"], e["cached_tokens"], e["scores"], e["total"]) for e in answer.json()["endpoints"]])
    return out


def assert_converge(replicas, asked, known):
    """They agree within the time allowed from now; `known` says whether what they agree on is right: the best match of each prompt, in blocks."""
    since = time.monotonic()
    while True:
        views = [view(replica, asked) for replica in replicas]
        took = time.monotonic() - since
        if all(other == views[0] for other in views[1:]) and known([max(e[1] for e in endpoints) for endpoints in views[0]]):
            return
        assert took < WITHIN, f"after {took:.1f} s: {views}"
        time.sleep(0.02)


def all_warm(matches):
    return min(matches) >= BLOCKS


def none_warm(matches):
    return max(matches) == 0


def start_replica(factory, engines):
    return factory.serve("--config-file", CONFIG, engines=engines).wait_ready().wait_events(len(engines))


@pytest.fixture(scope="module")
def engines(start_shared):
    return start_shared.sim(count=3).engines()


@pytest.fixture(scope="module")
def replicas(start_shared, engines):
    return [start_replica(start_shared, engines) for _ in range(2)]


def test_replicas_that_share_the_traffic_score_alike(replicas):
    asked = prompts("Shared")
    for turn in range(4):
        for i, prompt in enumerate(asked):
            assert replicas[(turn + i) % 2].complete(prompt + f" Turn {turn}.", max_tokens=4).status_code == 200
    assert_converge(replicas, asked, all_warm)
    held = [{e["url"]: e["blocks"] for e in replica.endpoints()} for replica in replicas]
    assert held[0] == held[1] and sum(held[0].values()) >= len(asked) * BLOCKS


def test_a_replica_without_traffic_knows_what_the_other_routed(replicas):
    asked = prompts("One-sided")
    for prompt in asked:
        assert replicas[0].complete(prompt, max_tokens=4).status_code == 200
    assert_converge(replicas, asked, all_warm)


def test_a_replica_that_starts_late_catches_up(start, replicas, engines):
    asked = prompts("Earlier")
    for prompt in asked:
        assert replicas[0].complete(prompt, max_tokens=4).status_code == 200
    late = start_replica(start, engines)
    assert_converge([*replicas, late], asked, all_warm)


def test_replicas_agree_after_the_engines_cleared_their_caches(replicas, engines):
    asked = prompts("Forgotten")
    for i, prompt in enumerate(asked):
        assert replicas[i % 2].complete(prompt, max_tokens=4).status_code == 200
    assert_converge(replicas, asked, all_warm)
    for engine in engines:
        assert httpx.post(engine["url"] + "/reset_prefix_cache").status_code == 200
        httpx.post(engine["url"] + "/v1/completions", json={"model": MODEL, "prompt": "short", "max_tokens": 1})  # a step, which announces it
    assert_converge(replicas, asked, none_warm)
