"""A scripted engine: answers with given bytes, records the bytes it was sent. For what a simulator is too well-behaved to show."""

import http.server
import json
import threading


METRICS = b'vllm:num_requests_running{model_name="m"} 0\nvllm:num_requests_waiting{model_name="m"} 0\n'


class ScriptedEngine:
    """`answers`: path -> function(handler, body) that writes a whole response. `metrics`: the page of /metrics."""

    def __init__(self, model, answers, metrics=METRICS):
        self.requests = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def reply(self, status, content_type, body, headers=()):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def chunks(self, content_type, parts):
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for part in parts:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")

            def do_GET(self):
                if self.path == "/v1/models":
                    card = {"id": model, "object": "model", "created": 0, "owned_by": "vllm", "root": model, "parent": None, "max_model_len": 4096}
                    self.reply(200, "application/json", json.dumps({"object": "list", "data": [card]}).encode())
                elif self.path == "/version":
                    self.reply(200, "application/json", b'{"version":"0.32.0"}')
                elif self.path == "/health":
                    self.reply(200, "text/plain", b"")
                elif self.path == "/metrics":
                    self.reply(200, "text/plain", metrics)
                else:
                    self.reply(404, "application/json", b'{"detail":"Not Found"}')

            def read_body(self):
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = bytearray()
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return bytes(body)

            def do_POST(self):
                body = self.read_body()
                outer.requests.append((self.path, dict(self.headers), body))
                answers[self.path](self, body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
