"""The cluster's network in this network namespace: a bridge, one namespace with an address of its own for every pod, and services
that a small proxy serves at their cluster addresses, by name through each pod's hosts file."""

import asyncio
import contextlib
import pathlib
import subprocess
import threading

NODE_IP = "10.244.0.1"
POD_PREFIX = "10.244"
SERVICE_RANGE = "10.96.0.0/16"
DOMAIN = "cluster.local"


def ip(*args):
    done = subprocess.run(["ip", *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(map(str, args))}: {done.stderr.strip()}")


def set_up():
    """Once, in a network namespace of our own: nothing of it reaches the machine's network."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "br0", "type", "bridge")
    ip("addr", "add", f"{NODE_IP}/16", "dev", "br0")
    ip("link", "set", "br0", "up")
    ip("route", "add", "local", SERVICE_RANGE, "dev", "lo")


class Addresses:
    """Pod addresses, in order, each used once: a test that wants an old one again frees it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._next = 10
        self._free = []

    def take(self):
        with self._lock:
            if self._free:
                return self._free.pop(0)
            self._next += 1
            return f"{POD_PREFIX}.{self._next // 250}.{self._next % 250 + 1}"

    def reuse_next(self, address):
        with self._lock:
            self._free.append(address)


class Sandbox:
    """A pod's network namespace."""

    _count = 0
    _lock = threading.Lock()

    def __init__(self, address):
        self.address = address
        self._holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; echo up; exec sleep infinity"],
                                        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        if self._holder.stdout.readline().strip() != "up":
            raise RuntimeError("no network namespace for a pod")
        with Sandbox._lock:
            Sandbox._count += 1
            link = f"pod{Sandbox._count}"
        pid = self._holder.pid
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", pid)
        ip("link", "set", link, "master", "br0", "up")
        subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "sh", "-ec",
                        f"ip addr add {address}/16 dev eth0; ip link set eth0 up; ip route add default via {NODE_IP}"], check=True)

    def enter(self):
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net"]

    def close(self):
        self._holder.kill()
        self._holder.wait()


class Hosts:
    """The hosts file every pod mounts, in place of the cluster's DNS: one inode, rewritten in place."""

    def __init__(self, path, extra):
        self.path = pathlib.Path(path)
        self.extra = extra
        self.write({})

    def write(self, services):
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self.extra.items())]
        for (namespace, name), address in services.items():
            full = f"{name}.{namespace}.svc"
            lines.append(f"{address} {full}.{DOMAIN} {full} {name}.{namespace}")
        text = "\n".join(lines) + "\n"
        if not self.path.exists() or self.path.read_text() != text:
            self.path.write_text(text)


class ServiceProxy:
    """Serves every Service at its cluster address: `backends(service, port)` says where a new connection may go."""

    def __init__(self, backends, hosts):
        self._backends = backends
        self._hosts = hosts
        self._listeners = {}  # (address, port) -> (service key, server)
        self._services = {}
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def update(self, services):
        """`services`: all Service objects there are."""
        asyncio.run_coroutine_threadsafe(self._update(services), self._loop).result(30)

    async def _update(self, services):
        wanted, names = {}, {}
        for service in services:
            address = service["spec"].get("clusterIP")
            if not address or address == "None":
                continue
            names[(service["metadata"]["namespace"], service["metadata"]["name"])] = address
            for port in service["spec"].get("ports", []):
                wanted[(address, port["port"])] = (service, port)
        for key in list(self._listeners):
            if key not in wanted:
                self._listeners.pop(key).close()
        self._services = wanted
        self._hosts.write(names)
        for key in wanted:
            if key not in self._listeners:
                self._listeners[key] = await asyncio.start_server(lambda r, w, key=key: self._serve(key, r, w), *key)

    async def _serve(self, key, reader, writer):
        try:
            choices = self._backends(*self._services[key]) if key in self._services else []
            if not choices:
                return
            self._turn += 1
            there_reader, there_writer = await asyncio.open_connection(*choices[self._turn % len(choices)])
            await asyncio.gather(self._pipe(reader, there_writer), self._pipe(there_reader, writer))
        except OSError:
            pass
        finally:
            writer.close()

    @staticmethod
    async def _pipe(source, sink):
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except OSError:
            sink.transport.abort()
        finally:
            with contextlib.suppress(OSError, RuntimeError):
                if sink.can_write_eof():
                    sink.write_eof()
