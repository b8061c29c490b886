"""A cluster of one node on this machine, and the tools that its users have: kubectl, helm, helmfile."""

import json
import os
import pathlib
import subprocess
import threading
import time

import network
from api import path
from control_plane import BIN, ControlPlane
from harness import ROOT, wait_until
from hub import Hub
from istio import Istio
from node import Node

GUIDE = ROOT / "deploy/guide"
PLUGINS = pathlib.Path(__file__).with_name("helm-plugins")
SLOW = 60


class Cluster:
    def __init__(self, directory):
        self.directory = directory
        started = time.monotonic()
        network.set_up()
        (directory / "control-plane").mkdir()
        self.control_plane = ControlPlane(directory / "control-plane").start()
        self.api = self.control_plane.api
        self.control_plane.install_crds()
        wait_until(lambda: self.api.find(path(("api/v1", "serviceaccounts"), "default", "default")), "the controllers work", SLOW)
        self.hub = Hub(self.control_plane.certificates)
        self.node = Node(self.control_plane, directory)
        self.istio_faults = {}
        self.istio = Istio(self.api, directory / "istio", self.istio_faults, self.node.backends)
        self.node.pods_changed = self.istio.wake
        self.seconds = time.monotonic() - started

    def stop(self):
        self.istio.stop()
        self.node.stop()
        self.hub.stop()
        self.control_plane.stop()

    # ---- tools ----
    def environment(self, **more):
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        tools = f"{BIN}:{os.environ['PATH']}"
        return {**os.environ, "PATH": tools, "HOME": str(home), "KUBECONFIG": str(self.control_plane.kubeconfig), "HELM_PLUGINS": str(PLUGINS),
                **{k: str(v) for k, v in more.items()}}

    def run(self, *command, timeout=180, check=True, cwd=None, **env):
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, env=self.environment(**env), cwd=cwd)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def kubectl(self, *args, **kwargs):
        return self.run(BIN / "kubectl", *args, **kwargs).stdout

    def helm(self, *args, **kwargs):
        return self.run(BIN / "helm", *args, **kwargs).stdout

    def helmfile(self, *args, **kwargs):
        return self.run(BIN / "helmfile", *args, cwd=GUIDE, **kwargs).stdout

    # ---- objects ----
    def namespace(self, name):
        self.api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        wait_until(lambda: self.api.find(path(("api/v1", "serviceaccounts"), name, "default")), "the namespace's account", SLOW)

    def secret(self, namespace, name, **data):
        self.api.create(path(("api/v1", "secrets"), namespace), {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})

    def pods(self, namespace, selector="", ready=None):
        """Pods that are not on their way out, by name."""
        items = [p for p in self.api.items(path("Pod", namespace), labelSelector=selector) if "deletionTimestamp" not in p["metadata"]]
        if ready is not None:
            items = [p for p in items if self.is_ready(p) == ready]
        return sorted(items, key=lambda p: p["metadata"]["name"])

    @staticmethod
    def is_ready(pod):
        return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))

    def wait_pods(self, namespace, selector, count, deadline=SLOW):
        """Exactly `count` pods, all ready."""
        def there():
            self.check()
            pods = self.pods(namespace, selector)
            return pods if len(pods) == count and all(map(self.is_ready, pods)) else None
        return wait_until(there, lambda: f"{count} ready pods of {selector}: {self.explain(namespace)}", deadline)

    def check(self):
        faults = self.node.complaints + self.node.proxy.faults
        assert not faults, faults

    def explain(self, namespace):
        lines = [self.kubectl("get", "pods", "-n", namespace, "-o", "wide", check=False), json.dumps(self.istio_faults)]
        for worker in list(self.node.workers.values()):
            if worker.namespace == namespace:
                if worker.waiting:
                    lines.append(f"{worker.name}: {worker.waiting}")
                lines += [f"{worker.name} {c.name}: {c.log_path.read_text(errors='replace')[-1500:]}" for c in list(worker.containers.values())]
        return "\n".join([*lines, *self.node.complaints])

    def logs(self, namespace, selector, *args):
        return self.kubectl("logs", "-l", selector, "-n", namespace, *args)

    def service_url(self, namespace, name, port):
        return f"http://{self.api.get(path('Service', namespace, name))['spec']['clusterIP']}:{port}"

    def stop_api(self):
        self.control_plane.stop_one("apiserver")

    def start_api(self):
        self.control_plane.start_apiserver()


class Background:
    """Runs `action` again and again in a thread until it is left; keeps what it returned."""

    def __init__(self, action):
        self.action, self.results, self._done = action, [], threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._done.is_set():
            self.results.append(self.action())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join(60)
