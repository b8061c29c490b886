"""The tokenizer from the hub: a stub of it on two ports (the hub, and the store its redirects lead to) serves a real tokenizer."""

import hashlib
import http.server
import json
import socket
import threading

import httpx
import pytest

from harness import MODEL, TOKENIZER, run, wait_until

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_stub_secret"
ENGINE = "http://127.0.0.1:1,events=none"


class Hub:
    """`mode`: ok, gated or down. Large files lie in the store, small ones on the hub, as on the real one."""

    def __init__(self):
        self.mode = "ok"
        self.asked = []  # (server, path, Authorization)
        self.files = {name: (TOKENIZER / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self, status, headers=(), body=b""):
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        class Store(Handler):
            def do_GET(self):
                outer.asked.append(("store", self.path, self.headers.get("Authorization")))
                self.answer(200, [("ETag", '"the-store\'s-own"')], outer.files[self.path.split("?")[0].lstrip("/")])

        class Front(Handler):
            def do_GET(self):
                outer.asked.append(("hub", self.path, self.headers.get("Authorization")))
                if outer.mode == "down":
                    return self.answer(503)
                if outer.mode == "gated" or self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return self.answer(401, [("X-Error-Code", "GatedRepo")], b"Access to this model is restricted.")
                prefix, _, rest = self.path.partition("/resolve/")
                revision, _, name = rest.partition("/")
                body = outer.files.get(name)
                if prefix != f"/{MODEL}" or revision not in ("main", COMMIT) or body is None:
                    return self.answer(404, [("X-Error-Code", "EntryNotFound")])
                about = [("X-Repo-Commit", COMMIT)]
                if name != "tokenizer.json":
                    return self.answer(200, [*about, ("ETag", f'"{hashlib.sha1(body).hexdigest()}"')], body)
                about.append(("X-Linked-ETag", f'"{hashlib.sha256(body).hexdigest()}"'))
                self.answer(302, [*about, ("Location", f"{outer.store_url}/{name}?signature=x")])

        self.servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in (Front, Store)]
        self.url, self.store_url = (f"http://127.0.0.1:{server.server_port}" for server in self.servers)
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def hub():
    stub = Hub()
    yield stub
    stub.close()


@pytest.fixture
def env(hub, tmp_path):
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": "",
            "HUGGINGFACE_HUB_CACHE": "", "XDG_CACHE_HOME": "", "HOME": ""}


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
