"""What a large pool costs the router, and how fast it lets go of a pod that is being deleted.

A scripted API server holds the namespace's pods, light engines answer and publish events at the pool's addresses, the router is the real program. Every
deletion has a chaser: a prompt that the pod alone has cached, sent again and again, so that the router wants that very pod until it knows better.
Exit 1 when a pod is picked more than a second after its deletion event, or when more engines are asked for their load than allowed.
"""

import argparse
import asyncio
import ipaddress
import itertools
import json
import pathlib
import random
import re
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import httpx  # noqa: E402
import psutil  # noqa: E402

import conftest  # noqa: E402
import fake_kube  # noqa: E402
from harness import MODEL, wait_until  # noqa: E402

CONFIG = ROOT / "deploy/config/precise-prefix.yaml"
EVENTS_PORT = 5557  # as in CONFIG
FIRST_ADDRESS = "127.77.0.1"
SPARE = 50        # addresses beyond the pool's, for pods that come
LABELS = {"app": "engine", "llm-d.ai/role": "decode"}
LIMIT_SECONDS = 1.0
WARM_UP, WATCHED = 0.4, 3.0  # of a chaser: before the deletion, after it
PAUSE = 0.015                # between two of its requests
TOKENS = 256
# About what kubelet and controllers write into a pod.
PADDING = {f"example.com/note-{i}": "x" * 60 for i in range(40)}


def cpu_ns(pid):
    """On-CPU time of all threads so far."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir())


def event_sockets(pid):
    return sum(1 for c in psutil.Process(pid).net_connections("tcp") if c.raddr and c.raddr.port == EVENTS_PORT and c.status == "ESTABLISHED")


class Deletions(dict):
    """Pod -> when the API server handed the event to the watch's socket that says it is being deleted, or gone."""

    def listen(self):
        send = fake_kube._Handler._chunk

        def note(handler, events):
            at = time.monotonic()
            for event in events:
                if event.startswith(b'{"type":"DELETED"') or b'"deletionTimestamp"' in event:
                    self.setdefault(re.search(rb'"name": "([^"]+)"', event)[1].decode(), at)
            send(handler, events)

        fake_kube._Handler._chunk = note


class Client:
    """One connection to the router, one request at a time."""

    def __init__(self, url, log):
        self.host, self.port = url.removeprefix("http://").split(":")
        self.log, self.streams = log, None

    async def ask(self, prompt):
        """The name of the pod that was picked."""
        if self.streams is None:
            self.streams = await asyncio.open_connection(self.host, int(self.port))
        reader, writer = self.streams
        body = json.dumps({"model": MODEL, "prompt": prompt, "max_tokens": 1}).encode()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        answer = await reader.readexactly(int(fields["content-length"]))
        if not head.startswith("HTTP/1.1 200"):
            raise SystemExit(f"an answer was {head.splitlines()[0]}: {answer[:300]}")
        pod = fields["x-warmpath-endpoint"]
        self.log.append((pod, json.loads(answer)["received"]))
        return pod

    def close(self):
        if self.streams:
            self.streams[1].close()


def draw_prompt(draw):
    return [draw.randrange(1000, 100_000) for _ in range(TOKENS)]


class Run:
    def __init__(self, options, kube, router, addresses, draw):
        self.options, self.kube, self.router, self.draw = options, kube, router, draw
        self.picks = []      # (pod, when an engine received it)
        self.deleted = Deletions()
        self.deleted.listen()
        self.asked = 0       # deletions asked of the API
        self.hot = 0         # deleted pods that were being picked until then
        self.claimed = set()
        self.free = list(addresses[options.pool:])
        self.live = {}       # pod -> address
        self.numbers = itertools.count()
        self.unready = []
        self.sockets = []

    def new_pod(self, address):
        name = f"engine-{next(self.numbers):05d}"
        self.live[name] = address
        return fake_kube.pod(name, address, LABELS, annotations=PADDING)

    async def background(self, until):
        """Requests that nobody has cached, spread over the pool."""
        client = Client(self.router.url, self.picks)
        per_second = self.options.rate / 8
        while time.monotonic() < until:
            due = time.monotonic() + self.draw.expovariate(per_second)
            await client.ask(draw_prompt(self.draw))
            await asyncio.sleep(max(0, due - time.monotonic()))
        client.close()

    async def others(self, until):
        """Pods of the namespace that are not the pool's change too."""
        while time.monotonic() < until:
            name = f"other-{self.draw.randrange(self.options.pods - self.options.pool):05d}"
            self.kube.edit("pods", name, lambda p: p["metadata"]["annotations"].update(touched=str(time.time())))
            await asyncio.sleep(0.1)

    async def delete(self, due, graceful):
        client = Client(self.router.url, self.picks)
        await asyncio.sleep(max(0, due - WARM_UP - time.monotonic()))
        while True:
            prompt = draw_prompt(self.draw)
            chosen = []
            while time.monotonic() < due or len(chosen) < 4:
                chosen.append(await client.ask(prompt))
                await asyncio.sleep(PAUSE)
            pod = chosen[-1]
            if pod in self.live and pod not in self.claimed:
                break
        self.claimed.add(pod)
        self.hot += chosen[-3:] == [pod] * 3
        self.asked += 1
        at = time.monotonic()
        if graceful:
            self.kube.edit("pods", pod, lambda p: p["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=30))
        else:
            self.kube.delete("pods", pod)
        while time.monotonic() < at + WATCHED:
            await client.ask(prompt)
            await asyncio.sleep(PAUSE)
            if graceful and time.monotonic() > at + WATCHED / 2:
                self.kube.delete("pods", pod)
                graceful = False
        client.close()
        self.free.append(self.live.pop(pod))  # an address is used again, by another pod

    async def change(self, number, due):
        kind = number % 5
        if kind in (0, 2):
            await self.delete(due, graceful=kind == 2)
            return
        await asyncio.sleep(max(0, due - time.monotonic()))
        if kind in (1, 3):
            self.kube.apply(self.new_pod(self.free.pop(0)))
        elif self.unready:
            self.set_ready(self.unready.pop(), "True")
        else:
            pod = self.draw.choice([name for name in self.live if name not in self.claimed])
            self.claimed.add(pod)
            self.unready.append(pod)
            self.set_ready(pod, "False")

    def set_ready(self, pod, status):
        self.kube.edit("pods", pod, lambda p: p["status"]["conditions"][0].update(status=status))

    async def sample(self, until):
        while time.monotonic() < until:
            self.sockets.append(await asyncio.to_thread(event_sockets, self.router.popen.pid))
            await asyncio.sleep(5)

    async def measure(self):
        begin = time.monotonic() + 1
        end = begin + self.options.seconds
        step = self.options.seconds / self.options.changes
        changes = [self.change(i, begin + (i + 1) * step) for i in range(self.options.changes)]
        await asyncio.gather(*changes, *(self.background(end) for _ in range(8)), self.others(end), self.sample(end))

    def late(self):
        """[(seconds from a pod's deletion event to its last pick, pod)], 0 for pods that were not picked any more."""
        last = {}
        for pod, received in self.picks:
            if pod in self.deleted:
                last[pod] = max(last.get(pod, 0), received - self.deleted[pod])
        return sorted(((last.get(pod, 0), pod) for pod in self.deleted), reverse=True)


def start_engines(directory, count):
    ready = directory / "engines.ready"
    process = subprocess.Popen([sys.executable, str(ROOT / "bench/fleet_engines.py"), "--first", FIRST_ADDRESS, "--count", str(count),
                                "--events-port", str(EVENTS_PORT), "--model", MODEL, str(ready)])
    wait_until(lambda: ready.exists() or process.poll() is not None, "the engines listen", deadline=60)
    if process.poll() is not None:
        raise SystemExit("the engines did not start")
    return process, int(ready.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pods", type=int, default=10_000, help="pods of the namespace")
    parser.add_argument("--pool", type=int, default=1_000, help="of those, pods of the pool")
    parser.add_argument("--changes", type=int, default=100, help="changes of the pool's pods")
    parser.add_argument("--seconds", type=float, default=60, help="in which they happen")
    parser.add_argument("--rate", type=float, default=80, help="requests per second beside those that chase pods")
    parser.add_argument("--max-scrapes-per-second", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="also write the figures here")
    options = parser.parse_args()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    draw = random.Random(options.seed)
    first = int(ipaddress.ip_address(FIRST_ADDRESS))
    addresses = [str(ipaddress.ip_address(first + i)) for i in range(options.pool + SPARE)]
    with tempfile.TemporaryDirectory() as name, fake_kube.FakeKube() as kube:
        directory = pathlib.Path(name)
        start = conftest.Factory(directory)
        engines, port = start_engines(directory, len(addresses))
        try:
            kube.apply(fake_kube.pool("engines", {"app": "engine"}, [port]))
            kube.apply(*(fake_kube.pod(f"other-{i:05d}", f"10.{i // 62500}.{i // 250 % 250}.{i % 250 + 1}", {"app": "other"}, annotations=PADDING)
                         for i in range(options.pods - options.pool)))
            run = Run(options, kube, None, addresses, draw)
            kube.apply(*(run.new_pod(address) for address in addresses[:options.pool]))
            began = time.monotonic()
            run.router = router = start.serve(
                "--kubeconfig", kube.kubeconfig(directory), "--pool-name", "engines", "--pool-namespace", fake_kube.NAMESPACE, "--config-file", CONFIG,
                "--expose-decision", "--max-scrapes-per-second", options.max_scrapes_per_second)
            router.wait_ready()
            ready = time.monotonic() - began

            def settled():
                found = router.endpoints()
                return len(found) == options.pool and all(e["state"] == "healthy" and e["events"]["connected"] for e in found)

            wait_until(settled, lambda: f"{options.pool} endpoints are healthy with events; there are {len(router.endpoints())}", deadline=120)
            known = time.monotonic() - began
            pid, stats = router.popen.pid, lambda: httpx.get(f"http://127.0.0.1:{port}/bench/stats", timeout=30).json()
            idle = psutil.Process(pid).memory_info().rss
            print(f"{options.pods} pods, {options.pool} in the pool; Ready after {ready:.1f} s, every engine healthy and its events connected after {known:.1f} s", flush=True)

            asyncio.run(Client(router.url, []).ask(draw_prompt(draw)))
            before, cpu, clock = stats(), cpu_ns(pid), time.monotonic()
            asyncio.run(run.measure())
            cpu, clock, after = cpu_ns(pid) - cpu, time.monotonic() - clock, stats()
            peak = psutil.Process(pid).memory_info().rss

            def current():
                found = {e["name"] for e in router.endpoints()}
                return found == set(run.live) - set(run.unready)

            wait_until(current, "the router knows exactly the pods that are left")
            sockets_left = len(run.live) - len(run.unready)
            wait_until(lambda: event_sockets(pid) == sockets_left, lambda: f"{sockets_left} event sockets; there are {event_sockets(pid)}")
        finally:
            start.stop()
            engines.terminate()
            engines.wait(10)

    late = run.late()
    figures = {"cpu_cores": cpu / 1e9 / clock, "rss_idle_mib": idle / 2**20, "rss_mib": peak / 2**20,
               "scrapes_per_s": (after["/metrics"] - before["/metrics"]) / clock, "event_sockets_max": max(run.sockets),
               "requests_per_s": len(run.picks) / clock, "deleted": len(run.deleted), "chased": run.hot,
               "last_pick_s": late[0][0], "median_pick_s": late[len(late) // 2][0]}
    print("{0} changes in {1:.0f} s, {deleted} of them deletions, {chased} of pods that every chaser's request went to; {requests_per_s:.0f} requests/s".format(
        options.changes, options.seconds, **figures))
    print("CPU             {cpu_cores:8.3f} cores".format(**figures))
    print("resident memory {rss_mib:8.1f} MiB, {rss_idle_mib:.1f} before the load".format(**figures))
    print("scrapes         {scrapes_per_s:8.1f} /s    at most {0}".format(options.max_scrapes_per_second or "any number", **figures))
    print("event sockets   {event_sockets_max:8d}       at most, {0} in the end: one for each engine".format(sockets_left, **figures))
    print("last pick       {0:8.1f} ms after a pod's deletion event (median {1:.1f}), none later; limit {2:.0f} ms".format(
        figures["last_pick_s"] * 1e3, figures["median_pick_s"] * 1e3, LIMIT_SECONDS * 1e3))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(figures))
    failed = [f"{pod} was picked {seconds:.2f} s after its deletion event" for seconds, pod in late if seconds > LIMIT_SECONDS]
    if len(run.deleted) != run.asked:
        failed.append(f"the router's watch was told of {len(run.deleted)} deletions, of {run.asked}")
    if options.max_scrapes_per_second and figures["scrapes_per_s"] > options.max_scrapes_per_second * 1.02:
        failed.append("more scrapes than allowed")
    if figures["event_sockets_max"] > options.pool + SPARE:
        failed.append("more event sockets than engines")
    for what in failed:
        print("MISSED: " + what)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
