"""The Kubernetes API as the tests use it: plain HTTP with an administrator's certificate, and lists kept up to date by a watch."""

import json
import ssl
import threading
import time

import httpx

PLURALS = {
    "Deployment": ("apis/apps/v1", "deployments"), "Gateway": ("apis/gateway.networking.k8s.io/v1", "gateways"),
    "Service": ("api/v1", "services"), "Pod": ("api/v1", "pods"), "Node": ("api/v1", "nodes"), "Namespace": ("api/v1", "namespaces"),
}


def path(kind, namespace=None, name=None, sub=None):
    """`kind`: one of PLURALS, or (group version, plural)."""
    root, plural = PLURALS[kind] if isinstance(kind, str) else kind
    parts = ["", root, *(["namespaces", namespace] if namespace else []), plural, *([name] if name else []), *([sub] if sub else [])]
    return "/".join(parts)


class Api:
    def __init__(self, server, ca, cert=None, key=None, patience=0):
        """`patience`: seconds for which a request is tried again while the server is away."""
        self.patience = patience
        context = ssl.create_default_context(cafile=str(ca))
        if cert:
            context.load_cert_chain(str(cert), str(key))
        self.client = httpx.Client(base_url=server, verify=context, timeout=30, trust_env=False,
                                   limits=httpx.Limits(max_connections=None))

    def request(self, method, where, body=None, params=None, kind="application/json", ok=()):
        """The decoded answer; raises on a status that is neither success nor in `ok`."""
        content = None if body is None else json.dumps(body)
        end = time.monotonic() + self.patience
        while True:
            try:
                answer = self.client.request(method, where, content=content, params=params, headers={"content-type": kind} if content else {})
                break
            except httpx.TransportError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        if answer.status_code >= 300 and answer.status_code not in ok:
            raise RuntimeError(f"{method} {where}: {answer.status_code} {answer.text[:600]}")
        return answer.json() if answer.text.startswith("{") else answer.text

    def get(self, where, **params):
        return self.request("GET", where, params=params)

    def find(self, where):
        """None when there is no such object."""
        answer = self.request("GET", where, ok=(404,))
        return None if answer.get("kind") == "Status" else answer

    def items(self, where, **params):
        return self.get(where, **params)["items"]

    def create(self, where, body, ok=(409,)):
        return self.request("POST", where, body, ok=ok)

    def merge(self, where, body, ok=()):
        return self.request("PATCH", where, body, kind="application/merge-patch+json", ok=ok)

    def apply(self, where, body):
        """Server-side apply as the rig's own manager."""
        return self.request("PATCH", where, body, params={"fieldManager": "rig", "force": "true"}, kind="application/apply-patch+yaml")

    def delete(self, where, body=None, ok=(404,)):
        return self.request("DELETE", where, body, ok=ok)


class Watched:
    """A list kept up to date in a thread of its own; `changed(event type, object)` runs on that thread."""

    def __init__(self, api, where, changed=None):
        self._api, self._where, self._changed = api, where, changed
        self._objects = {}
        self._lock = threading.Lock()
        self._stopping = False
        self.synced = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def objects(self):
        with self._lock:
            return list(self._objects.values())

    def stop(self):
        self._stopping = True

    def _run(self):
        while not self._stopping:
            try:
                self._list_and_watch()
            except (httpx.HTTPError, RuntimeError, json.JSONDecodeError):
                time.sleep(0.2)

    def _list_and_watch(self):
        answer = self._api.get(self._where)
        with self._lock:
            old, self._objects = self._objects, {o["metadata"]["uid"]: o for o in answer["items"]}
        for uid, was in old.items():
            if uid not in self._objects:
                self._tell("DELETED", was)
        for item in answer["items"]:
            self._tell("ADDED", item)
        self.synced.set()
        params = {"watch": "1", "resourceVersion": answer["metadata"]["resourceVersion"], "allowWatchBookmarks": "true"}
        timeout = httpx.Timeout(30, read=None)
        with self._api.client.stream("GET", self._where, params=params, timeout=timeout) as stream:
            for line in stream.iter_lines():
                event = json.loads(line)
                if event.get("type", "ERROR") == "ERROR":
                    return
                if event["type"] == "BOOKMARK":
                    continue
                item = event["object"]
                with self._lock:
                    if event["type"] == "DELETED":
                        self._objects.pop(item["metadata"]["uid"], None)
                    else:
                        self._objects[item["metadata"]["uid"]] = item
                self._tell(event["type"], item)

    def _tell(self, kind, item):
        if self._changed and not self._stopping:
            self._changed(kind, item)
