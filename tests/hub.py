"""A stub of the Hugging Face hub on two ports: the hub, and the store its redirects lead to. It serves a real tokenizer."""

import hashlib
import http.server
import threading

from harness import MODEL, TOKENIZER

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_stub_secret"


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

    def environment(self, home):
        """For a process that has this hub and a cache in `home`, and no other."""
        return {"HF_ENDPOINT": self.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": "", "HUGGINGFACE_HUB_CACHE": "",
                "XDG_CACHE_HOME": "", "HOME": ""}

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
