"""The cluster's network in this network namespace: a bridge, one namespace with an address of its own for every pod, and services
the kernel leads to pods, by name through each pod's hosts file."""

import pathlib
import subprocess
import threading

NODE_IP = "10.244.0.1"
POD_PREFIX = "10.244"
SERVICE_RANGE = "10.96.0.0/16"
OUTSIDE = "10.97.0.1"  # what is no part of the cluster
DOMAIN = "cluster.local"
RULES = """
table ip services {}
delete table ip services
table ip services {
  chain cluster_addresses {
RULES
  }
  chain arriving { type nat hook prerouting priority -100; jump cluster_addresses; }
  chain ours { type nat hook output priority -100; jump cluster_addresses; }
  chain without_pods { ip daddr RANGE meta l4proto tcp reject with tcp reset; }
  chain passing { type filter hook forward priority 0; jump without_pods; }
  chain leaving { type filter hook output priority 0; jump without_pods; }
}
"""


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
    ip("route", "add", SERVICE_RANGE, "dev", "br0")
    ip("addr", "add", f"{OUTSIDE}/32", "dev", "lo")
    for name, value in (("ip_forward", 1), ("conf/all/send_redirects", 0), ("conf/br0/send_redirects", 0)):
        pathlib.Path(f"/proc/sys/net/ipv4/{name}").write_text(str(value))


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
        # A host route each: all packets pass the node, whose rules for services must see both directions.
        subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "sh", "-ec",
                        f"ip addr add {address}/32 dev eth0; ip link set eth0 up; ip route add {NODE_IP} dev eth0 scope link; "
                        f"ip route add default via {NODE_IP} src {address}"], check=True)

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


class Services:
    """kube-proxy: cluster addresses become those of ready pods in the kernel, so that the peer's own address stays visible, as on most
    clusters. `backends(service, port)`: [(address, port)]. `wake` after every change of services or pods."""

    def __init__(self, services, backends, hosts):
        self._list, self._backends, self._hosts = services, backends, hosts
        self._wake = threading.Event()
        self._rules = ""
        self.faults = []

    def start(self):
        threading.Thread(target=self._run, daemon=True).start()
        self._wake.set()

    def wake(self):
        self._wake.set()

    def _run(self):
        while True:
            self._wake.wait()
            self._wake.clear()
            names, rules = {}, []
            for service in self._list():
                address = service["spec"].get("clusterIP")
                if not address or address == "None":
                    continue
                names[(service["metadata"]["namespace"], service["metadata"]["name"])] = address
                for port in service["spec"].get("ports", []):
                    ends = self._backends(service, port)
                    if ends:
                        choices = ", ".join(f"{i} : {a} . {p}" for i, (a, p) in enumerate(ends))
                        rules.append(f"    ip daddr {address} tcp dport {port['port']} dnat ip addr . port to "
                                     f"numgen random mod {len(ends)} map {{ {choices} }}")
            self._hosts.write(names)
            self._load("\n".join(sorted(rules)))

    def _load(self, rules):
        if rules == self._rules:
            return
        text = RULES.replace("RULES", rules).replace("RANGE", SERVICE_RANGE)
        done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True)
        if done.returncode != 0:
            self.faults.append(f"nft: {done.stderr}\n{text}")
        self._rules = rules
