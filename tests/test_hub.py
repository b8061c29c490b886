"""The tokenizer from the hub: download, cache, refusal, retry, and what a stub of the hub saw of it."""

import hashlib
import json
import socket

import httpx
import pytest

from harness import MODEL, run, wait_until
from hub import COMMIT, TOKEN, Hub

ENGINE = "http://127.0.0.1:1,events=none"


@pytest.fixture
def hub():
    stub = Hub()
    yield stub
    stub.close()


@pytest.fixture
def env(hub, tmp_path):
    return hub.environment(tmp_path / "hf")


def card(picker):
    return picker.endpoints()[0]["tokenizer"]


def tokens(picker):
    done = httpx.post(picker.api + "/api/v1/tokenize?path=/v1/completions", json={"model": MODEL, "prompt": "Hello, world"}, timeout=20)
    return done.json().get("token_ids") if done.status_code == 200 else None


def start_epp(start, env, *flags):
    return start.epp("--tokenizer", MODEL, *flags, engines=[ENGINE], tokenizer=False, env=env)


def test_loads_from_the_hub_and_then_from_the_cache(start, hub, env, tmp_path):
    picker = start_epp(start, env)
    wait_until(lambda: card(picker)["state"] == "loaded", lambda: f"loaded; {card(picker)}")
    snapshot = tmp_path / "hf/hub/models--Qwen--Qwen3-0.6B/snapshots" / COMMIT
    assert card(picker) == {"state": "loaded", "name": MODEL, "source": "hub", "directory": str(snapshot), "reason": None}
    assert tokens(picker) == [9707, 11, 1879]
    assert picker.metric("warmpath_tokenizer_state", state="loaded") == 1
    assert picker.metric("warmpath_tokenizer_state") == 1, "one state at a time"

    assert {authorization for server, _, authorization in hub.asked if server == "hub"} == {f"Bearer {TOKEN}"}
    assert [(path, authorization) for server, path, authorization in hub.asked if server == "store"] == [("/tokenizer.json?signature=x", None)]
    assert TOKEN not in picker.log() and TOKEN not in json.dumps(picker.endpoints())

    assert (snapshot.parents[1] / "refs/main").read_text() == COMMIT
    assert (snapshot / "tokenizer.json").is_symlink()
    assert (snapshot / "tokenizer.json").resolve().name == hashlib.sha256(hub.files["tokenizer.json"]).hexdigest()
    assert picker.stop() == 0

    asked = len(hub.asked)
    again = start_epp(start, {**env, "HF_HUB_OFFLINE": "1"})
    assert card(again)["source"] == "cache" and tokens(again) == [9707, 11, 1879]
    assert len(hub.asked) == asked


def test_a_gated_model_is_named_and_loads_once_it_is_given(start, hub, env):
    hub.mode = "gated"
    picker = start_epp(start, env)
    wait_until(lambda: card(picker)["state"] == "failed", lambda: f"failed; {card(picker)}")
    assert "gated, and HF_TOKEN's account has no access" in card(picker)["reason"]
    notes = {note["code"]: note["text"] for note in picker.endpoints()[0]["notes"]}
    assert "gated" in notes["tokens"]
    assert picker.get("/healthz").status_code == 200
    ready = picker.get("/readyz")
    assert ready.status_code == 503 and "no engine is healthy" in ready.text, "the tokenizer does not hold up readiness"
    assert picker.metric("warmpath_tokenizer_state", state="failed") == 1
    hub.mode = "ok"
    wait_until(lambda: card(picker)["state"] == "loaded", lambda: f"loaded; {card(picker)}")
    assert tokens(picker) == [9707, 11, 1879]
    log = [line for line in picker.log().splitlines() if "tokenizer " in line]
    assert [sum(f"tokenizer {state}" in line for line in log) for state in ("loading", "failed", "loaded")] == [1, 1, 1]


def test_a_hub_that_is_down_ends_nothing(start, hub, env):
    hub.mode = "down"
    picker = start_epp(start, env)
    wait_until(lambda: card(picker)["state"] == "failed", lambda: f"failed; {card(picker)}")
    assert "answered 503" in card(picker)["reason"]
    assert picker.stop() == 0


def test_a_stop_while_the_hub_is_awaited_is_prompt(start, env):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        picker = start_epp(start, {**env, "HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        assert card(picker)["state"] == "loading"
        assert picker.stop(10) == 0


def test_a_cache_that_cannot_be_written_is_named(start, hub, env, tmp_path):
    (tmp_path / "file").write_text("")
    picker = start_epp(start, {**env, "HF_HOME": str(tmp_path / "file")})
    wait_until(lambda: card(picker)["state"] == "failed", lambda: f"failed; {card(picker)}")
    assert "cannot be written by uid" in card(picker)["reason"] and "HF_HOME" in card(picker)["reason"]
    assert hub.asked == []


def test_without_a_name_the_model_served_is_looked_for_on_the_hub(start, hub, env):
    sim = start.sim(tokenizer=False)
    picker = start.serve(engines=sim.engines(), tokenizer=False, env=env)
    wait_until(lambda: card(picker)["state"] == "loaded", lambda: f"loaded; {card(picker)}")
    assert card(picker)["source"] == "hub"
    picker.wait_ready()


def test_a_directory_that_does_not_exist_is_a_mistake_in_the_flag(tmp_path):
    done = run("epp", "--endpoint", ENGINE, "--tokenizer", tmp_path / "gone")
    assert done.returncode == 2 and done.stderr.strip() == f"warmpath: --tokenizer {tmp_path}/gone: neither a directory nor a model's name"
    done = run("epp", "--endpoint", ENGINE, "--tokenizer", tmp_path)
    assert done.returncode == 1 and "has no tokenizer.json" in done.stderr
