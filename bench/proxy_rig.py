"""What bench/gateway.py and bench/idle.py stand on: light engines, our gateway and nginx, each pinned to its core, and the client."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import harness  # noqa: E402
import httpx  # noqa: E402
import psutil  # noqa: E402

TOOL = pathlib.Path(os.environ.get("PROXY_LOAD", harness.BINARY.parent / "proxy_load"))
NGINX = [ROOT / ".deps/bin/nginx", pathlib.Path("/usr/sbin/nginx")]
METRICS_PAGE = "vllm-0.32.0/bs16/metrics_after.txt"  # of tests/data/golden.tar.xz
# The server has a core for itself, everything else shares another one.
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, OTHER_CORE = CORES[0], CORES[-1]


def raise_priority():
    """Other work of the machine takes less of what is measured, where that is allowed."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)


def pinned(core, *command):
    return ["taskset", "-c", str(core), *map(str, command)]


def cpu_ns(pid):
    """On-CPU time of all threads so far."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir())


def resident(pid):
    """Resident bytes, to the page."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Rss")


def metrics_page(directory):
    """A recorded page of vLLM's metrics, as a file."""
    path = directory / "metrics.txt"
    if not path.exists():
        with tarfile.open(ROOT / "tests/data/golden.tar.xz") as archive:
            member = next(m for m in archive.getmembers() if m.name.endswith(METRICS_PAGE))
            path.write_bytes(archive.extractfile(member).read())
    return path


class Engines(harness.Sim):
    """Light engines, with the interface of simulated ones."""

    def __init__(self, directory, count, name="engines", block_size=64, tokenizer=True):
        args = ["engines", "--count", count, "--block-size", block_size, "--model", harness.MODEL, "--metrics", metrics_page(directory)]
        super().__init__(directory, name, args + (["--tokenizer", harness.TOKENIZER] if tokenizer else []))

    def program(self):
        return pinned(OTHER_CORE, TOOL)

    def ask(self, path):
        return httpx.post(self.listeners["engine"] + path, timeout=120).json()


class Gateway(harness.Router):
    """`warmpath serve` in front of engines: one thread on the server's core, or as it comes."""

    def __init__(self, directory, engines, name="gateway", flags=(), endpoints=None, tokenizer=True, pin=True):
        self.engines, self.pin = engines, pin
        args = ["serve", "--listen", "127.0.0.1:0", "--metrics-port", 0, "--model", harness.MODEL, *flags]
        if tokenizer:
            args += ["--tokenizer", harness.TOKENIZER]
        if pin:
            args += ["--threads", 1]
        for engine in engines.engines()[:endpoints]:
            args += ["--endpoint", f"{engine['url']},events={engine['events']}"]
        super().__init__(directory, name, args)
        try:
            self.wait_ready().wait_events(endpoints or len(engines.engines()))
        except (AssertionError, httpx.HTTPError):
            self.kill()
            raise SystemExit(f"warmpath serve does not come up (exit code {self.popen.returncode}): {self.log()[-2000:]}") from None

    def program(self):
        return pinned(SERVER_CORE, harness.BINARY) if self.pin else super().program()

    @property
    def port(self):
        return int(self.url.rsplit(":", 1)[1])

    @property
    def pids(self):
        return [self.popen.pid]

    def settle(self):
        """Until the blocks that the engines have announced are all in the index."""
        seen = -1
        while True:
            time.sleep(0.3)
            now = self.blocks()
            if now == seen:
                return now
            seen = now


class Nginx:
    """One worker, proxy_pass to the engines in turn, connections kept, nothing buffered on disk, no log."""

    def __init__(self, directory, engines, name="nginx"):
        self.name = name
        self.port = harness.free_port()
        home = directory / name
        for folder in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        servers = " ".join(f"server {engine['url'].removeprefix('http://')};" for engine in engines.engines())
        config = f"""
{'user root;' if os.geteuid() == 0 else ''} worker_processes 1; daemon off; pid {home}/nginx.pid; error_log {home}/error.log warn; worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; tcp_nodelay on; keepalive_timeout 600s; keepalive_requests 1000000000;
  client_max_body_size 64m; client_body_buffer_size 2m;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi; uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  upstream engines {{ {servers} keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s; }}
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    location / {{ proxy_pass http://engines; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}"""
        (home / "nginx.conf").write_text(config)
        command = pinned(SERVER_CORE, self.binary(), "-p", home, "-e", home / "error.log", "-c", home / "nginx.conf")
        self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL)

        def up():
            if self.popen.poll() is not None:
                raise AssertionError(f"nginx ended with {self.popen.returncode}: {(home / 'error.log').read_text()}")
            return psutil.Process(self.popen.pid).children() and _listens(self.port)
        try:
            harness.wait_until(up, "nginx listens")
        except AssertionError:
            self.popen.kill()
            raise
        self.pids = [child.pid for child in psutil.Process(self.popen.pid).children()]

    @staticmethod
    def binary():
        for path in NGINX:
            if path.exists():
                return path
        found = shutil.which("nginx")
        if found is None:
            raise SystemExit("no nginx: ./dev bench gateway fetches it; or, as root: apt-get install nginx-light")
        return found

    def version(self):
        return subprocess.run([self.binary(), "-v"], capture_output=True, text=True).stderr.strip().removeprefix("nginx version: ")

    def stop(self, timeout=5):
        self.popen.terminate()
        self.popen.wait(timeout)


class Envoy:
    """The tests' Envoy as a plain proxy: one worker, round robin over the engines, no log."""

    def __init__(self, directory, engines, name="envoy"):
        self.name, self.port = name, harness.free_port()
        def address(port):
            return {"socket_address": {"address": "127.0.0.1", "port_value": int(port)}}
        manager = {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "bench",
                   "generate_request_id": False, "stream_idle_timeout": "0s",
                   "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "engines", "timeout": "0s"}}]}]},
                   "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}
        hosts = [{"endpoint": {"address": address(engine["url"].rsplit(":", 1)[1])}} for engine in engines.engines()]
        config = {"static_resources": {
            "listeners": [{"name": "bench", "address": address(self.port), "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
            "clusters": [{"name": "engines", "type": "STATIC", "connect_timeout": "5s", "load_assignment": {"cluster_name": "engines", "endpoints": [{"lb_endpoints": hosts}]},
                          "circuit_breakers": {"thresholds": [{"max_connections": 16384, "max_pending_requests": 16384, "max_requests": 16384}]}}]}}
        path = directory / f"{name}.json"
        path.write_text(json.dumps(config))
        command = pinned(SERVER_CORE, ROOT / ".deps/venv/bin/envoy", "-c", path, "--concurrency", 1, "--disable-hot-restart", "--log-level", "error")
        self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        harness.wait_until(lambda: self.popen.poll() is not None or _listens(self.port), "Envoy listens")
        if self.popen.poll() is not None:
            raise AssertionError(f"Envoy ended with {self.popen.returncode}")
        # The command may be a launcher.
        self.pids = [self.popen.pid, *(child.pid for child in psutil.Process(self.popen.pid).children(recursive=True))]

    def stop(self, timeout=5):
        self.popen.terminate()
        self.popen.wait(timeout)


def _listens(port):
    import socket
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def load(server, **options):
    """One run of the client against `server`; what it reports."""
    args = ["load", "--port", server.port]
    for pid in server.pids:
        args += ["--pid", pid]
    for name, value in options.items():
        args += ["--" + name.replace("_", "-"), int(value) if isinstance(value, bool) else value]
    done = subprocess.run(pinned(OTHER_CORE, TOOL, *args), capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise SystemExit(f"{server.name}: {done.stderr.strip()}")
    return json.loads(done.stdout)
