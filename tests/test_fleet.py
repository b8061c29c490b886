"""Engines that come late, go away and return; seeing it all through the API and the inspection commands."""

import json

import httpx

from conftest import EVENTS
from harness import GUIDE_PROMPT, MODEL, free_port, run, wait_until


def test_engine_comes_late_goes_away_and_returns(start):
    port, events_port = free_port(), free_port()
    router = start.serve("-v", 4, engines=[f"http://127.0.0.1:{port},events=tcp://127.0.0.1:{events_port}"])
    assert router.get("/healthz").status_code == 200
    assert router.get("/readyz").status_code == 503
    answer = router.complete(GUIDE_PROMPT)
    assert answer.status_code == 503 and answer.json()["error"]["message"]

    events = {**EVENTS, "endpoint": f"tcp://*:{events_port}"}
    del events["replay_endpoint"]
    sim = start.sim(port=port, events=events)
    router.wait_ready().wait_events(1)
    assert router.complete(GUIDE_PROMPT).status_code == 200
    wait_until(lambda: router.blocks() == 3, "blocks of the late engine")

    assert sim.stop() == 0
    wait_until(lambda: not router.ready(), "not ready without engines")
    wait_until(lambda: router.blocks() == 0, "nothing is kept of an engine that is gone")
    assert router.complete(GUIDE_PROMPT).status_code in (502, 503)

    start.sim(port=port, events=events)
    router.wait_ready().wait_events(1)
    wait_until(lambda: router.complete(GUIDE_PROMPT).status_code == 200, "served again")

    def warm():
        router.complete(GUIDE_PROMPT)
        return router.pod_scores()[-1] and list(router.pod_scores()[-1].values()) == [2]

    wait_until(warm, lambda: f"the restarted engine's blocks are known: {router.endpoints()}")
    assert router.blocks() == 3, "nothing of the engine's first life is left"


def test_all_blocks_cleared_empties_the_index(start):
    sim = start.sim()
    router = start.serve(engines=sim.engines()).wait_ready().wait_events(1)
    router.complete(GUIDE_PROMPT)
    wait_until(lambda: router.blocks() == 3, "blocks stored")
    assert httpx.post(sim.engines()[0]["url"] + "/reset_prefix_cache").status_code == 200
    router.complete("short", max_tokens=1)  # an engine announces the reset with its next step
    wait_until(lambda: router.blocks() == 0, "blocks cleared")
    assert router.metric("llm_d_epp_kv_cache_index_evictions_total") == 3


def test_index_equals_the_engines_own_blocks(fleet):
    sim, router = fleet
    for i in range(12):
        assert router.complete(f"{i % 3} " + GUIDE_PROMPT, max_tokens=40).status_code == 200

    def truth(engine):
        return {block["hash"] for rank in _ranks(httpx.get(engine["url"] + "/debug/kv").json()) for block in rank["blocks"]}

    def equal():
        held = {e["url"]: e["blocks"] for e in router.endpoints()}
        return all(held[engine["url"]] == len(truth(engine)) for engine in sim.engines())

    wait_until(equal, lambda: f"index {router.endpoints()} equals {[len(truth(e)) for e in sim.engines()]}")


def _ranks(answer):
    ranks = answer["ranks"] if isinstance(answer, dict) and "ranks" in answer else [answer]
    return ranks if isinstance(ranks, list) else list(ranks.values())


def test_cards_index_and_explain_have_their_shapes(fleet):
    _, router = fleet
    card = router.endpoints()[0]
    assert set(card) >= {"name", "url", "state", "blocks", "events", "block_size"}
    assert set(card["events"]) >= {"connected", "last_seq", "received", "gaps", "errors"}
    assert set(router.get("/api/v1/index").json()) >= {"blocks", "bytes", "budget_bytes", "evictions"}

    body = {"model": MODEL, "prompt": GUIDE_PROMPT}
    lookups = router.metric("llm_d_epp_kv_cache_index_lookup_requests_total")
    explained = httpx.post(router.api + "/api/v1/explain?path=/v1/completions", json=body).json()
    assert explained["model"] == MODEL and explained["prompt_tokens"] == 192
    assert explained["chosen"] in {e["name"] for e in explained["endpoints"]}
    for endpoint in explained["endpoints"]:
        assert set(endpoint) >= {"name", "url", "block_size", "matched_blocks", "cached_tokens", "scores", "total", "filtered_by"}
        assert all(0 <= score <= 1 for score in endpoint["scores"].values())
    assert set(explained["weights"]) == set(explained["endpoints"][0]["scores"])
    assert router.metric("llm_d_epp_kv_cache_index_lookup_requests_total") == lookups, "explaining is no lookup"


def test_record_of_a_request_served(fleet):
    _, router = fleet
    body = {"model": MODEL, "prompt": GUIDE_PROMPT, "max_tokens": 3}
    answer = httpx.post(router.url + "/v1/completions", json=body, headers={"x-request-id": "to-explain"})
    record = router.get("/api/v1/requests/to-explain").json()
    assert record["status"] == 200 and record["chosen"] == answer.headers["x-warmpath-endpoint"]
    assert record["delivered_cached_tokens"] == answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert router.get("/api/v1/requests/never-seen").status_code == 404


def test_tokenize_is_what_the_engine_says(fleet):
    sim, router = fleet
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Grüße, 世界!"}]}
    ours = httpx.post(router.api + "/api/v1/tokenize?path=/v1/chat/completions", json=body).json()
    theirs = httpx.post(sim.engines()[0]["url"] + "/tokenize", json=body).json()
    assert ours["token_ids"] == theirs["tokens"]
    assert set(ours) >= {"text", "token_ids", "keys"}


def test_inspection_commands(fleet, tmp_path):
    _, router = fleet
    name = router.endpoints()[0]["name"]
    shown = run("endpoints", "--server", router.api)
    assert shown.returncode == 0 and name in shown.stdout
    assert json.loads(run("endpoints", "--server", router.api, "--json").stdout)["endpoints"]

    body = tmp_path / "body.json"
    body.write_text(json.dumps({"model": MODEL, "prompt": GUIDE_PROMPT}))
    explained = run("explain", "--server", router.api, "--body", body, "--path", "/v1/completions")
    assert explained.returncode == 0 and name in explained.stdout, explained.stderr
    assert run("explain", "--server", router.api, "never-seen").returncode == 1

    tokens = run("tokenize", "--server", router.api, "Hello, world", "--json")
    assert json.loads(tokens.stdout)["token_ids"] == [9707, 11, 1879]


def test_an_engine_without_events_is_named_with_the_flag_to_set(start):
    sim = start.sim(events=None)
    router = start.serve(engines=[sim.engines()[0]["url"] + f",events=tcp://127.0.0.1:{free_port()}"]).wait_ready()
    end_of_log = lambda: (router.complete(GUIDE_PROMPT, max_tokens=1), "--kv-events-config" in router.log())[1]
    wait_until(end_of_log, "the silent engine is reported", 20)
