"""Light engines for bench/fleet.py: one process that answers on every 127.x.y.z address of a pool, and publishes KV events on each.

An engine's HTTP side is vLLM's as far as a router looks: /v1/models, /health, /version, a recorded /metrics page, and completions of token-id prompts,
which say when and at which address they were received. What an engine has served it announces as stored blocks, on its own address. `/bench/stats`
counts. Ready once it has written its port to the file named last on the command line."""

import argparse
import asyncio
import ipaddress
import json
import pathlib
import struct
import tarfile
import time

import msgpack
import zmq

ROOT = pathlib.Path(__file__).resolve().parent.parent
METRICS_PAGE = "vllm-0.32.0/bs16/metrics_after.txt"  # of tests/data/golden.tar.xz
BLOCK = 64


def metrics_page():
    with tarfile.open(ROOT / "tests/data/golden.tar.xz") as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith(METRICS_PAGE))
        return archive.extractfile(member).read()


class Publisher:
    """The events of the engine at one address."""

    def __init__(self, context, address, port, model):
        self.socket = context.socket(zmq.PUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(f"tcp://{address}:{port}")
        self.topic = f"kv@{address}@{model}".encode()
        self.sequence, self.stored = 0, set()

    def serve(self, tokens):
        """Stores the prompt's blocks; how many of its tokens were cached."""
        parent, cached, first_new, hashes, new_tokens = None, 0, None, [], []
        before = None
        for at in range(0, len(tokens) // BLOCK * BLOCK, BLOCK):
            block = tuple(tokens[at:at + BLOCK])
            name = hash((before, block)) & (2**63 - 1)
            if name in self.stored and first_new is None:
                cached += BLOCK
                parent = name
            else:
                first_new = at if first_new is None else first_new
                hashes.append(name)
                new_tokens += block
                self.stored.add(name)
            before = name
        if hashes:
            batch = [time.time(), [["BlockStored", hashes, parent, new_tokens, BLOCK, None, "GPU", None]], 0]
            self.socket.send_multipart([self.topic, struct.pack(">Q", self.sequence), msgpack.packb(batch)])
            self.sequence += 1
        return min(cached, max(0, len(tokens) - 1) // BLOCK * BLOCK)


class Engine(asyncio.Protocol):
    """One connection."""
    fleet = None

    def connection_made(self, transport):
        self.transport, self.buffer = transport, bytearray()
        self.address = transport.get_extra_info("sockname")[0]

    def data_received(self, data):
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
            if len(self.buffer) < end + 4 + length:
                return
            path = bytes(self.buffer[:end]).split(b" ", 2)[1].decode()
            body = bytes(self.buffer[end + 4:end + 4 + length])
            del self.buffer[:end + 4 + length]
            kind, answer = self.fleet.answer(self.address, path, body)
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(answer), answer))


class Fleet:
    def __init__(self, first, count, events_port, model):
        context = zmq.Context(io_threads=1)
        context.max_sockets = count + 16
        start = int(ipaddress.ip_address(first))
        self.model = model
        self.publishers = {}
        for i in range(count):
            address = str(ipaddress.ip_address(start + i))
            self.publishers[address] = Publisher(context, address, events_port, model)
        card = {"id": model, "object": "model", "created": 0, "owned_by": "vllm", "root": model, "parent": None, "max_model_len": 40960}
        self.fixed = {"/v1/models": (b"application/json", json.dumps({"object": "list", "data": [card]}).encode()),
                      "/version": (b"application/json", b'{"version":"0.32.0"}'), "/health": (b"text/plain", b""),
                      "/metrics": (b"text/plain", metrics_page())}
        self.counts = {"requests": 0}

    def answer(self, address, path, body):
        if path == "/bench/stats":
            return b"application/json", json.dumps(self.counts).encode()
        if path in self.fixed:
            self.counts[path] = self.counts.get(path, 0) + 1
            return self.fixed[path]
        received = time.monotonic()
        self.counts["requests"] += 1
        prompt = json.loads(body)["prompt"]
        cached = self.publishers[address].serve(prompt)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 1, "total_tokens": len(prompt) + 1, "prompt_tokens_details": {"cached_tokens": cached}}
        choice = {"index": 0, "text": "x", "logprobs": None, "finish_reason": "length"}
        return b"application/json", json.dumps({"id": "cmpl-0", "object": "text_completion", "created": 0, "model": self.model, "choices": [choice],
                                                "usage": usage, "received": received, "address": address}).encode()


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", required=True, help="first address")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--events-port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("ready", type=pathlib.Path)
    options = parser.parse_args()
    Engine.fleet = Fleet(options.first, options.count, options.events_port, options.model)
    server = await asyncio.get_running_loop().create_server(Engine, "0.0.0.0", 0, backlog=4096)
    written = options.ready.with_suffix(".new")
    written.write_text(str(server.sockets[0].getsockname()[1]))
    written.rename(options.ready)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
