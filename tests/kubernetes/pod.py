"""A pod's life as the kubelet leads it: sandbox, volumes, containers, probes, status, restarts, the end."""

import datetime
import socket
import threading
import time

import grpc
import httpx

import network
import volumes
from api import path
from container import Container, find_image

PROBE_SECONDS = 0.25  # probes run faster than their periods say; what they ask is as written
TICK = 0.1
PROBER = httpx.Client(verify=False, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))  # a connection each, as a kubelet


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def probe_once(probe, container, address):
    """Whether the probe's question is answered well."""
    timeout = max(1, probe.get("timeoutSeconds", 1))

    def port_of(value):
        if isinstance(value, int) or str(value).isdigit():
            return int(value)
        return next(p["containerPort"] for p in container.spec.get("ports", []) if p.get("name") == value)
    try:
        if "httpGet" in probe:
            get = probe["httpGet"]
            url = f"{get.get('scheme', 'HTTP').lower()}://{get.get('host') or address}:{port_of(get['port'])}{get.get('path', '/')}"
            return PROBER.get(url, timeout=timeout).status_code < 400
        if "grpc" in probe:
            name = probe["grpc"].get("service") or ""
            with grpc.insecure_channel(f"{address}:{probe['grpc']['port']}") as channel:
                check = channel.unary_unary("/grpc.health.v1.Health/Check")
                question = b"" if not name else b"\x0a" + bytes([len(name)]) + name.encode()
                return check(question, timeout=timeout) == b"\x08\x01"
        if "tcpSocket" in probe:
            with socket.create_connection((address, port_of(probe["tcpSocket"]["port"])), timeout):
                return True
        if "exec" in probe:
            return container.execute(probe["exec"]["command"], timeout).returncode == 0
    except (httpx.HTTPError, grpc.RpcError, OSError, StopIteration):
        return False
    return True


class Health:
    """The probes of one run of a container."""

    def __init__(self, container, address):
        self.container, self.address = container, address
        self.started = "startupProbe" not in container.spec
        self.ready = False
        self.failures = {"startupProbe": 0, "livenessProbe": 0, "readinessProbe": 0}
        self._next = 0.0
        self.dead = False

    def _ask(self, name):
        probe = self.container.spec.get(name)
        if probe is None:
            return True
        good = probe_once(probe, self.container, self.address)
        self.failures[name] = 0 if good else self.failures[name] + 1
        return good

    def look(self):
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PROBE_SECONDS
        if not self.started:
            self.started = self._ask("startupProbe")
            return
        readiness = self._ask("readinessProbe")
        limit = self.container.spec.get("readinessProbe", {}).get("failureThreshold", 3)
        self.ready = readiness or (self.ready and self.failures["readinessProbe"] < limit)
        liveness = self.container.spec.get("livenessProbe")
        if liveness:
            # A period is what a liveness failure counts in, after the initial delay: a slow start must not kill.
            age = time.time() - self.container.started_at
            if age > liveness.get("initialDelaySeconds", 0) and not self._ask("livenessProbe"):
                period = liveness.get("periodSeconds", 10)
                self.dead = self.failures["livenessProbe"] * PROBE_SECONDS > liveness.get("failureThreshold", 3) * period


class PodWorker:
    def __init__(self, node, pod):
        self.node, self.api, self.pod = node, node.api, pod
        meta = pod["metadata"]
        self.namespace, self.name, self.uid = meta["namespace"], meta["name"], meta["uid"]
        self.directory = node.directory / "pods" / f"{self.namespace}_{self.name}_{self.uid[:8]}"
        self.address = None
        self.sandbox = None
        self.containers = {}  # name -> Container
        self.health = {}
        self.start_time = now()
        self.waiting = {}  # container name -> (reason, message)
        self.hold_ready = None  # a test's word: False keeps the pod not ready
        self._told = None
        self._wake = threading.Event()
        self.ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def where(self, sub=None):
        return path("Pod", self.namespace, self.name, sub)

    def update(self, pod):
        self.pod = pod
        self._wake.set()

    @property
    def deleting(self):
        return "deletionTimestamp" in self.pod["metadata"]

    # ---- the thread ----
    def _run(self):
        try:
            self._live()
        except Exception as error:  # noqa: BLE001  (the rig's own fault must be seen, not kill the thread silently)
            if not self.node.stopping:
                self.node.complaints.append(f"pod {self.namespace}/{self.name}: {type(error).__name__}: {error}")
        finally:
            self._end()

    def _live(self):
        if not self.pod["spec"].get("nodeName"):
            self.api.create(self.where("binding"), {
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": self.name, "namespace": self.namespace},
                "target": {"apiVersion": "v1", "kind": "Node", "name": self.node.name}}, ok=(404, 409))
            self.pod["spec"]["nodeName"] = self.node.name
        self.address = self.node.addresses.take()
        self.sandbox = network.Sandbox(self.address)
        self.directory.mkdir(parents=True)
        source = volumes.Source(self.api, self.pod, self.address, network.NODE_IP)
        mounted = self._until_there(lambda: volumes.write(self.directory / "volumes", source, self.pod["spec"].get("volumes", [])))
        if mounted is None:
            return
        for spec in self.pod["spec"].get("initContainers", []):
            container = self._start(spec, source, mounted)
            if container is None or not self._wait_for_init(container):
                return
        for spec in self.pod["spec"]["containers"]:
            if self._start(spec, source, mounted) is None:
                return
        self._watch_over(source)

    def _until_there(self, action):
        """Tries until what the pod names exists; None when the pod is to go first."""
        while not self.deleting and not self.node.stopping:
            try:
                return action()
            except volumes.NotYet as missing:
                for spec in self.pod["spec"]["containers"]:
                    self.waiting[spec["name"]] = ("CreateContainerConfigError", str(missing))
                self.report()
                self._pause(0.3)
        return None

    def _start(self, spec, source, mounted):
        image = find_image(spec["image"])
        while image is None and not self.deleting and not self.node.stopping:
            self.waiting[spec["name"]] = ("ImagePullBackOff", f"the rig has no image {spec['image']}")
            self.report()
            self._pause(0.3)
        if image is None:
            return None
        container = Container(self.directory, self.pod, spec, image, self.sandbox, mounted, self.node.hosts.path, self.node.ca)
        environment = self._until_there(lambda: source.environment(spec, self.node.environment(self.pod)))
        if environment is None:
            return None
        self.waiting.pop(spec["name"], None)
        container.start(environment)
        self.containers[container.name] = container
        self.health[container.name] = Health(container, self.address)
        return container

    def _wait_for_init(self, container):
        """A sidecar lets the next container start once it has started; the others once they have ended well."""
        sidecar = container.spec.get("restartPolicy") == "Always"
        while not self.deleting and not self.node.stopping:
            self._look()
            if sidecar and container.running() and self.health[container.name].started:
                return True
            if not sidecar and not container.running() and container.process.returncode == 0:
                return True
            self.report()
            self._pause(TICK)
        return False

    def _watch_over(self, source):
        while not self.deleting and not self.node.stopping:
            self._look()
            self.report()
            if self._phase() in ("Succeeded", "Failed"):
                self._wait_deleted()
                return
            self._pause(TICK)

    def _wait_deleted(self):
        while not self.deleting and not self.node.stopping:
            self._pause(0.3)

    def _look(self):
        policy = self.pod["spec"].get("restartPolicy", "Always")
        for container in self.containers.values():
            health = self.health[container.name]
            if health.dead:
                container.stop(2)
            if container.running():
                health.look()
                continue
            always = policy == "Always" or container.spec.get("restartPolicy") == "Always"
            again = always or (policy == "OnFailure" and container.process.returncode != 0)
            if again and time.time() - container.started_at > min(10, 0.2 * 2 ** container.restarts):
                container.restarted()
                source = volumes.Source(self.api, self.pod, self.address, network.NODE_IP)
                container.start(source.environment(container.spec, self.node.environment(self.pod)))
                self.health[container.name] = Health(container, self.address)

    def _pause(self, seconds):
        self._wake.wait(seconds)
        self._wake.clear()

    def _end(self):
        if self.deleting or self.node.stopping:
            grace = 0 if self.node.stopping else self.pod["metadata"].get("deletionGracePeriodSeconds", 30)
            # The main containers first; native sidecars outlive them.
            sidecars = {c["name"] for c in self.pod["spec"].get("initContainers", [])}
            for group in ([n for n in self.containers if n not in sidecars], [n for n in self.containers if n in sidecars]):
                threads = [threading.Thread(target=self._stop_container, args=(self.containers[n], grace)) for n in group]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        if self.sandbox:
            self.sandbox.close()
        if self.deleting and not self.node.stopping:
            self.api.delete(self.where(), {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}, ok=(404, 409))
        self.ended.set()

    @staticmethod
    def _stop_container(container, grace):
        hook = container.spec.get("lifecycle", {}).get("preStop", {}) if container.running() else {}
        if "sleep" in hook:
            time.sleep(min(grace, hook["sleep"]["seconds"]))
        elif "exec" in hook:
            container.execute(hook["exec"]["command"], max(1, grace))
        container.stop(grace)

    # ---- the status ----
    def _phase(self):
        main = [self.containers.get(c["name"]) for c in self.pod["spec"]["containers"]]
        if any(c is None for c in main):
            return "Pending"
        if self.pod["spec"].get("restartPolicy", "Always") != "Always" and not any(c.running() for c in main):
            return "Succeeded" if all(c.process.returncode == 0 for c in main) else "Failed"
        return "Running"

    def _container_status(self, spec, main):
        container = self.containers.get(spec["name"])
        status = {"name": spec["name"], "image": spec["image"], "imageID": "", "ready": False, "started": False,
                  "restartCount": container.restarts if container else 0, "lastState": {}}
        if container is None:
            reason, message = self.waiting.get(spec["name"], ("PodInitializing" if main else "ContainerCreating", ""))
            status["state"] = {"waiting": {"reason": reason, "message": message}}
            return status
        if container.last_exit is not None:
            status["lastState"] = {"terminated": {"exitCode": abs(container.last_exit), "reason": "Error" if container.last_exit else "Completed"}}
        if container.running():
            health = self.health[container.name]
            status["started"], status["ready"] = health.started, health.started and health.ready and self.hold_ready is not False
            at = datetime.datetime.fromtimestamp(container.started_at, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            status["state"] = {"running": {"startedAt": at}}
        else:
            code = abs(container.process.returncode)
            status["state"] = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
            status["ready"] = code == 0 and not main
        return status

    def report(self):
        """Writes the status when it is another one than the last."""
        spec = self.pod["spec"]
        containers = [self._container_status(c, True) for c in spec["containers"]]
        init = [self._container_status(c, False) for c in spec.get("initContainers", [])]
        sidecars = {c["name"] for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"}
        ready = all(c["ready"] for c in containers) and all(c["ready"] for c in init if c["name"] in sidecars)
        phase = self._phase()
        conditions = {"PodScheduled": True, "PodReadyToStartContainers": self.sandbox is not None, "Initialized": len(self.containers) > len(init) or not init,
                      "ContainersReady": ready, "Ready": ready}
        told = (phase, str(containers), str(init), str(conditions))
        if told == self._told:
            return
        status = {"phase": phase, "hostIP": network.NODE_IP, "podIP": self.address, "podIPs": [{"ip": self.address}], "startTime": self.start_time,
                  "containerStatuses": containers,
                  "conditions": [{"type": k, "status": str(v), "lastTransitionTime": now()} for k, v in conditions.items()]}
        if init:
            status["initContainerStatuses"] = init
        answer = self.api.merge(self.where("status"), {"metadata": {"uid": self.uid}, "status": status}, ok=(404, 409))
        if answer.get("kind") == "Pod":
            self._told = told
