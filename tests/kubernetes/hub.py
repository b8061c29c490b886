"""A Hugging Face hub of the cluster's own: pods find it as https://huggingface.co and trust its certificate."""

import hashlib
import http.server
import ssl
import threading

import network
from harness import TOKENIZER

NAME = "huggingface.co"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    def __init__(self, certificates):
        hub = self
        self.asked = []  # (path, Authorization)
        files = {f.name: f.read_bytes() for f in TOKENIZER.glob("*.json")}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.asked.append((self.path, self.headers.get("authorization")))
                body = files.get(self.path.rsplit("/", 1)[-1]) if "/resolve/" in self.path else None
                self.send_response(404 if body is None else 200)
                self.send_header("x-repo-commit", COMMIT)
                if body is None:
                    self.send_header("x-error-code", "EntryNotFound")
                    body = b""
                else:
                    self.send_header("etag", f'"{hashlib.sha1(body).hexdigest()}"')
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a client that left

        self._server = Server((network.OUTSIDE, 443), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificates.issue("hub", hosts=[NAME]))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
