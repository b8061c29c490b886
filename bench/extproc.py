"""What the endpoint picker costs behind Envoy: CPU per small request and per streamed chunk, memory per open stream.

Engines are simulated, Envoy and the picker are real, everything is on this machine. Rounds of small requests and of streams alternate
in one run; CPU is the processes' own (utime and stime of all threads, in nanoseconds), so a busy machine stretches the run and not the
figures. Envoy's own CPU in the same windows stands beside each figure. Exit 1 when a floor is missed.
"""

import argparse
import asyncio
import json
import pathlib
import random
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import psutil  # noqa: E402

import conftest  # noqa: E402
from harness import MODEL  # noqa: E402

CONFIG = ROOT / "deploy/config/precise-prefix.yaml"
WARM_UP = 10_500
FLOOR_REQUEST_US, FLOOR_CHUNK_US, FLOOR_CHUNK_RATIO, FLOOR_STREAM_KIB = 60, 8, 0.35, 32
WORDS = "the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not what".split()


def cpu_ns(pid):
    """On-CPU time of all threads so far."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


def request_bytes(body):
    text = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


def small_body(draw):
    prompt = ""
    while len(prompt) < 200:
        prompt += draw.choice(WORDS) + f"{draw.randrange(1000)} "
    return {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": prompt[:200]}]}


async def read_answer(reader):
    """Reads one answer to its end; its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        while True:
            size = int(await reader.readline(), 16)
            await reader.readexactly(size + 2)
            if size == 0:
                return status
    length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return status


async def connection(url, make_body, count, seed):
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    draw = random.Random(seed)
    for _ in range(count):
        writer.write(request_bytes(make_body(draw)))
        status = await read_answer(reader)
        if status != 200:
            raise SystemExit(f"an answer was {status}; the figures would mean nothing")
    writer.close()


async def load(url, make_body, connections, per_connection, seed):
    await asyncio.gather(*(connection(url, make_body, per_connection, seed * 1000 + i) for i in range(connections)))


class Window:
    """CPU and ext_proc messages between enter and exit."""

    def __init__(self, picker, front):
        self.picker, self.front = picker, front

    def __enter__(self):
        self.messages = self.front.ext_proc_stat("stream_msgs_sent")
        self.ours, self.envoys = cpu_ns(self.picker.popen.pid), cpu_ns(self.front.pid)
        return self

    def __exit__(self, *_):
        self.ours = cpu_ns(self.picker.popen.pid) - self.ours
        self.envoys = cpu_ns(self.front.pid) - self.envoys
        self.messages = self.front.ext_proc_stat("stream_msgs_sent") - self.messages


def measure_cpu(options, picker, front):
    def stream_body(draw):
        return {**small_body(draw), "max_tokens": options.chunks, "stream": True, "ignore_eos": True}

    # A picker keeps the records of its newest 10,000 requests: until there are as many it grows, which is not its steady state.
    asyncio.run(load(front.url, small_body, options.connections, WARM_UP // options.connections, 999))
    rows = []
    for number in range(options.rounds):
        with Window(picker, front) as small:
            asyncio.run(load(front.url, small_body, options.connections, options.requests // options.connections, number))
        requests = options.requests // options.connections * options.connections
        with Window(picker, front) as streams:
            asyncio.run(load(front.url, stream_body, options.connections, options.streams // options.connections, 500 + number))
        opened = options.streams // options.connections * options.connections
        chunks = streams.messages - opened * small.messages / requests
        per_request, envoy_request = small.ours / requests, small.envoys / requests
        rows.append({
            "request_us": per_request / 1e3, "envoy_request_us": envoy_request / 1e3,
            "chunk_us": (streams.ours - opened * per_request) / chunks / 1e3,
            "envoy_chunk_us": (streams.envoys - opened * envoy_request) / chunks / 1e3, "chunks": chunks})
        print("  round {}: request {request_us:6.1f} us (Envoy {envoy_request_us:6.1f})   chunk {chunk_us:5.2f} us (Envoy {envoy_chunk_us:5.2f}, "
              "{chunks:.0f} chunks)".format(number + 1, **rows[-1]), flush=True)
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


async def hold_streams(url, count, measure):
    """Opens `count` streams, waits for the first bytes of each, measures, lets go."""
    host, port = url.removeprefix("http://").split(":")
    draw = random.Random(7)
    held = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_bytes({**small_body(draw), "max_tokens": 1000, "stream": True, "ignore_eos": True}))
        held.append((reader, writer))
    for reader, _ in held:
        await reader.readuntil(b"data: ")
    value = measure()
    for _, writer in held:
        writer.close()
    return value


def measure_memory(options, picker, front):
    process = psutil.Process(picker.popen.pid)
    idle = process.memory_info().rss
    during = asyncio.run(hold_streams(front.url, options.open_streams, lambda: process.memory_info().rss))
    return (during - idle) / options.open_streams / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--requests", type=int, default=4000, help="small requests of a round")
    parser.add_argument("--streams", type=int, default=64, help="streams of a round")
    parser.add_argument("--chunks", type=int, default=500, help="tokens of a stream")
    parser.add_argument("--open-streams", type=int, default=800)
    parser.add_argument("--json", help="also write the medians here")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as directory:
        start = conftest.Factory(pathlib.Path(directory))
        try:
            sim = start.sim("--sim-inter-token-latency", "2ms", "--sim-prefill-overhead", "1us", "--sim-prefill-per-token", "0us", count=8, blocks=16384)
            slow = start.sim("--sim-inter-token-latency", "500ms", "--sim-prefill-overhead", "1us", "--sim-prefill-per-token", "0us", "--max-num-seqs", 1024,
                             "--max-num-batched-tokens", 32768, count=8, blocks=16384)
            pickers = [start.epp("--config-file", CONFIG, engines=fleet.engines()) for fleet in (sim, slow)]
            for picker in pickers:
                picker.wait_ready().wait_events(8)
            fronts = [start.envoy(picker) for picker in pickers]
            print(f"{options.connections} connections, 8 endpoints, precise scoring on the engines' events (64-token blocks), 200-byte chat prompts; medians of {options.rounds} rounds", flush=True)
            cpu = measure_cpu(options, pickers[0], fronts[0])
            applied = sum(engine["events"]["received"] for engine in pickers[0].endpoints())
            if applied == 0:
                raise SystemExit("no event arrived: this was not precise scoring")
            asyncio.run(load(fronts[1].url, small_body, options.connections, 20, 1))
            memory = measure_memory(options, pickers[1], fronts[1])
        finally:
            start.stop()

    figures = [("CPU per small request", cpu["request_us"], "us", FLOOR_REQUEST_US, cpu["envoy_request_us"]),
               ("CPU per streamed chunk", cpu["chunk_us"], "us", FLOOR_CHUNK_US, cpu["envoy_chunk_us"]),
               ("memory per open stream", memory, "KiB", FLOOR_STREAM_KIB, None)]
    missed = False
    for name, value, unit, floor, envoy_value in figures:
        missed |= value > floor
        if name == "CPU per streamed chunk":
            missed |= value > FLOOR_CHUNK_RATIO * envoy_value
        beside = f"   Envoy's own {envoy_value:6.1f} {unit}, ratio {value / envoy_value:.2f}" if envoy_value else ""
        print(f"{name:24} {value:6.1f} {unit:3}   floor {floor:3} {unit:3} {'MISSED' if value > floor else 'met'}{beside}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({**cpu, "stream_kib": memory}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
