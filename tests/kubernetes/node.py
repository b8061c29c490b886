"""Scheduler, kubelet and kube-proxy in one: every pod of the API server runs here as processes of this machine."""

import http.server
import ssl
import threading
import urllib.parse

import hub
import network
from api import Watched, path
from pod import PodWorker

KUBELET_PORT = 10250


class Node:
    """`stop` ends every process; `complaints` are faults of the rig, which fail the test."""

    def __init__(self, control_plane, directory, name="node-1"):
        self.name, self.directory = name, directory
        self.api = control_plane.patient_api
        self.addresses = network.Addresses()
        self.hosts = network.Hosts(directory / "hosts", {hub.NAME: network.OUTSIDE})
        self.ca = control_plane.ca
        self.complaints = []
        self.pods_changed = lambda: None  # called after every change
        self.stopping = False
        self.workers = {}  # uid -> PodWorker
        self._lock = threading.Lock()
        self.proxy = network.Services(lambda: self.services.objects(), self.backends, self.hosts)
        self._register()
        self._serve_logs(control_plane)
        self.services = Watched(self.api, "/api/v1/services", lambda *_: self.proxy.wake())
        self.services.synced.wait(30)
        self.pods = Watched(self.api, "/api/v1/pods", self._pod_changed)
        self.proxy.start()

    def _register(self):
        self.api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}})
        self.api.merge(path("Node", None, self.name, "status"), {"status": {
            "addresses": [{"type": "InternalIP", "address": network.NODE_IP}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}],
            "capacity": {"cpu": "64", "memory": "256Gi", "pods": "11000"}, "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "11000"}}})

    def _pod_changed(self, kind, pod):
        uid = pod["metadata"]["uid"]
        self.proxy.wake()
        self.pods_changed()
        with self._lock:
            worker = self.workers.get(uid)
            if kind == "DELETED":
                if worker:
                    pod["metadata"].setdefault("deletionTimestamp", "now")
                    worker.update(pod)
                    self.workers.pop(uid)
                return
            if worker:
                worker.update(pod)
            elif pod["spec"].get("nodeName", self.name) == self.name and not self.stopping:
                self.workers[uid] = PodWorker(self, pod)

    def worker(self, namespace, name):
        with self._lock:
            return next((w for w in self.workers.values() if (w.namespace, w.name) == (namespace, name)), None)

    def environment(self, pod):
        """What the kubelet adds: the API server, and unless the pod says no, variables for every Service of its namespace."""
        out = {}
        for service in self.services.objects():
            meta, address = service["metadata"], service["spec"].get("clusterIP", "None")
            kubernetes = (meta["namespace"], meta["name"]) == ("default", "kubernetes")
            linked = meta["namespace"] == pod["metadata"]["namespace"] and pod["spec"].get("enableServiceLinks", True)
            if address == "None" or not (kubernetes or linked):
                continue
            name = meta["name"].upper().replace("-", "_")
            ports = service["spec"]["ports"]
            out.update({f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(ports[0]["port"]),
                        f"{name}_PORT": f"tcp://{address}:{ports[0]['port']}"})
            for port in ports:
                link = f"{name}_PORT_{port['port']}_TCP"
                out.update({link: f"tcp://{address}:{port['port']}", f"{link}_PROTO": "tcp", f"{link}_PORT": str(port["port"]), f"{link}_ADDR": address})
                if port.get("name"):
                    out[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
        return out

    def backends(self, service, port):
        """[(address, port)] of the ready pods behind a Service's port."""
        meta = service["metadata"]
        if (meta["namespace"], meta["name"]) == ("default", "kubernetes"):
            return [(network.NODE_IP, 6443)]
        selector = service["spec"].get("selector")
        out = []
        for pod in self.pods.objects() if selector else []:
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))
            if service["spec"].get("publishNotReadyAddresses"):
                ready = True
            labels = pod["metadata"].get("labels", {})
            if pod["metadata"]["namespace"] != meta["namespace"] or not ready or "deletionTimestamp" in pod["metadata"]:
                continue
            if all(labels.get(k) == v for k, v in selector.items()):
                target = port.get("targetPort", port["port"])
                if not isinstance(target, int):
                    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
                    target = next((p["containerPort"] for c in containers for p in c.get("ports", []) if p.get("name") == target), None)
                if target:
                    out.append((pod["status"]["podIP"], target))
        return out

    def _serve_logs(self, control_plane):
        node = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                where = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(where.query))
                parts = where.path.strip("/").split("/")
                worker = node.worker(parts[1], parts[2]) if len(parts) == 4 and parts[0] == "containerLogs" else None
                container = worker.containers.get(parts[3]) if worker else None
                status, body = 404, b"no such container here\n"
                if container:
                    status, body = 200, (container.previous_path if query.get("previous") == "true" else container.log_path).read_bytes()
                    if "tailLines" in query:
                        lines = body.splitlines(keepends=True)
                        body = b"".join(lines[max(0, len(lines) - int(query["tailLines"])):])
                self.send_response(status)
                self.send_header("content-type", "text/plain")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._logs = http.server.ThreadingHTTPServer((network.NODE_IP, KUBELET_PORT), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(control_plane.kubelet_cert, control_plane.kubelet_key)
        context.load_verify_locations(control_plane.ca)
        context.verify_mode = ssl.CERT_REQUIRED  # the API server's client certificate
        self._logs.socket = context.wrap_socket(self._logs.socket, server_side=True)
        threading.Thread(target=self._logs.serve_forever, daemon=True).start()

    def stop(self):
        self.stopping = True
        self.pods.stop()
        self.services.stop()
        with self._lock:
            workers = list(self.workers.values())
        for worker in workers:
            worker.update(worker.pod)
        for worker in workers:
            worker.ended.wait(15)
        self._logs.shutdown()
