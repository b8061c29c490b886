"""A Kubernetes API server that a test scripts: objects in memory, LIST, WATCH, and the verbs of single objects, over HTTP with bearer tokens.

    with FakeKube() as kube:
        kube.apply(pool("gaie", {"app": "vllm"}), pod("a", "127.0.0.2", {"app": "vllm"}))
        router = start(..., "--kubeconfig", kube.kubeconfig(tmp_path))
        kube.edit("pods", "a", lambda p: p["status"]["conditions"][0].update(status="False"))
        kube.delete("pods", "a")

What can go wrong is scripted too: `faults`, `absent`, `rules`, `outage`, `compact`, `drop_watches`. It does not check objects against schemas."""

import base64
import collections
import contextlib
import copy
import dataclasses
import datetime
import http.server
import json
import re
import socket
import ssl
import threading
import time
import urllib.parse
import uuid

NAMESPACE = "llm-d-precise"
TOKEN = "the-routers-token"
POOL_GROUP, OLD_GROUP, LLMD_GROUP = "inference.networking.k8s.io", "inference.networking.x-k8s.io", "llm-d.ai"

# (group, version, plural) -> kind. "" is the core group.
KINDS = {
    ("", "v1", "pods"): "Pod",
    ("", "v1", "events"): "Event",
    (POOL_GROUP, "v1", "inferencepools"): "InferencePool",
    (OLD_GROUP, "v1alpha2", "inferencepools"): "InferencePool",
    (LLMD_GROUP, "v1alpha2", "inferenceobjectives"): "InferenceObjective",
    (OLD_GROUP, "v1alpha2", "inferenceobjectives"): "InferenceObjective",
    (LLMD_GROUP, "v1alpha2", "inferencemodelrewrites"): "InferenceModelRewrite",
    (OLD_GROUP, "v1alpha2", "inferencemodelrewrites"): "InferenceModelRewrite",
    (OLD_GROUP, "v1alpha2", "inferencemodels"): "InferenceModel",
    ("coordination.k8s.io", "v1", "leases"): "Lease",
}
REVIEWS = {("authentication.k8s.io", "v1", "tokenreviews"), ("authorization.k8s.io", "v1", "subjectaccessreviews")}
HISTORY = 100_000  # watch events kept


# ---- objects

def pod(name, ip, labels, *, ready=True, restarts=0, annotations=None, namespace=NAMESPACE, host_ip="127.0.0.1", container="vllm"):
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": dict(labels), "annotations": dict(annotations or {})},
            "spec": {"nodeName": "node-0", "containers": [{"name": container, "image": "engine"}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": host_ip,
                       "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
                       "containerStatuses": [{"name": container, "ready": ready, "restartCount": restarts, "image": "engine", "imageID": ""}]}}


def pool(name, selector, ports=(8000,), *, group=POOL_GROUP, picker=None, namespace=NAMESPACE):
    """An InferencePool of the group's version: v1, or v1alpha2 of the x-k8s.io group."""
    picker = picker or f"{name}-epp"
    if group == OLD_GROUP:
        version = "v1alpha2"
        spec = {"selector": dict(selector), "targetPortNumber": ports[0],
                "extensionRef": {"group": "", "kind": "Service", "name": picker, "failureMode": "FailClose"}}
    else:
        version = "v1"
        spec = {"selector": {"matchLabels": dict(selector)}, "targetPorts": [{"number": p} for p in ports], "appProtocol": "http",
                "endpointPickerRef": {"group": "", "kind": "Service", "name": picker, "port": {"number": 9002}, "failureMode": "FailClose"}}
    return {"apiVersion": f"{group}/{version}", "kind": "InferencePool", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def objective(name, pool_name, priority, *, group=LLMD_GROUP, pool_group=POOL_GROUP, namespace=NAMESPACE):
    return {"apiVersion": f"{group}/v1alpha2", "kind": "InferenceObjective", "metadata": {"name": name, "namespace": namespace},
            "spec": {"poolRef": {"group": pool_group, "kind": "InferencePool", "name": pool_name}, "priority": priority}}


def rewrite(name, pool_name, rules, *, group=LLMD_GROUP, pool_group=POOL_GROUP, namespace=NAMESPACE):
    return {"apiVersion": f"{group}/v1alpha2", "kind": "InferenceModelRewrite", "metadata": {"name": name, "namespace": namespace},
            "spec": {"poolRef": {"group": pool_group, "kind": "InferencePool", "name": pool_name}, "rules": rules}}


def labels_match(selector, labels):
    """The label selector grammar: equality, sets, presence."""
    for part in re.split(r",(?![^(]*\))", selector or ""):
        part = part.strip()
        if not part:
            continue
        within = re.fullmatch(r"(\S+) +(in|notin) +\((.*)\)", part)
        if within:
            found = labels.get(within[1]) in [v.strip() for v in within[3].split(",")]
            if found != (within[2] == "in"):
                return False
        elif "=" in part:
            key, value = re.split(r"!=|==|=", part, maxsplit=1)
            if (labels.get(key.strip()) == value.strip()) == ("!=" in part):
                return False
        elif (part.lstrip("!") in labels) == part.startswith("!"):
            return False
    return True


@dataclasses.dataclass
class Stored:
    object: dict
    version: int
    text: bytes  # as JSON

    def selected(self, labels, fields):
        meta = self.object["metadata"]
        for field in filter(None, (fields or "").split(",")):
            key, value = re.split(r"==|=", field, maxsplit=1)
            if {"metadata.name": meta["name"], "metadata.namespace": meta.get("namespace", "")}.get(key) != value:
                return False
        return labels_match(labels, meta.get("labels") or {})


@dataclasses.dataclass
class Change:
    version: int
    resource: tuple
    before: Stored | None
    after: Stored | None


@dataclasses.dataclass
class Request:
    """One that was received; `status` is 0 while it is answered."""
    method: str
    path: str
    query: dict
    headers: dict
    resource: tuple | None
    watch: bool
    status: int = 0


@dataclasses.dataclass
class Fault:
    """Answers the next `times` requests for which `match(request)` holds. A status of 0 closes the connection."""
    status: int
    match: object = lambda request: True
    times: int = 1
    retry_after: int | None = None
    body: bytes | None = None


class Refused(Exception):
    def __init__(self, status, reason, message):
        super().__init__(message)
        self.status, self.reason = status, reason


class FakeKube:
    def __init__(self, *, token=TOKEN, namespace=NAMESPACE, tls=False, bookmark_seconds=1.0):
        self.namespace = namespace
        self.users = {token: "system:serviceaccount:%s:router" % namespace}  # bearer tokens the server accepts
        self.readers = {}       # tokens a TokenReview knows -> (user, may it GET /metrics)
        self.rules = None       # RBAC PolicyRules of the client; None: everything is allowed
        self.absent = set()     # resources not served, as "plural" or "plural.group"
        self.faults = []        # [Fault], the first that matches is used
        self.requests = []      # [Request], in order
        self.bookmark_seconds = bookmark_seconds
        self.token = token
        self._objects = {resource: {} for resource in KINDS}  # resource -> (namespace, name) -> Stored
        self._changes = collections.deque(maxlen=HISTORY)
        self._pages = {}
        self._version, self._oldest, self._epoch = 1, 0, 0
        self._changed = threading.Condition(threading.RLock())
        self._connections = set()
        self._server, self._port = None, 0
        self._tls = _self_signed() if tls else None
        self.start()

    # ---- life

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def url(self):
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def start(self):
        """Again after `stop`: on the same port, with the same objects."""
        if self._server:
            return
        kube = self

        class Handler(_Handler):
            pass

        Handler.kube = kube

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads, allow_reuse_address, request_queue_size = True, True, 128

            def handle_error(self, request, client_address):
                pass  # clients go away in the middle of answers

        self._server = Server(("127.0.0.1", self._port), Handler)
        if self._tls:
            self._server.socket = self._tls.context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        """Refuses connections and cuts those that stand."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            self.drop_connections()

    @contextlib.contextmanager
    def outage(self):
        self.stop()
        try:
            yield
        finally:
            self.start()

    def drop_connections(self):
        with self._changed:
            for connection in list(self._connections):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.notify_all()

    def drop_watches(self):
        """Ends every watch the regular way, as a server that goes down in order."""
        with self._changed:
            self._epoch += 1
            self._changed.notify_all()

    def compact(self):
        """Forgets what changed: a watch from any earlier version is 410 Gone."""
        with self._changed:
            self._version += 1
            self._oldest = self._version
            self._changes.clear()
            self._pages.clear()

    def kubeconfig(self, directory):
        """Writes a kubeconfig for this server; returns its path."""
        cluster = {"server": self.url}
        if self._tls:
            cluster["certificate-authority-data"] = base64.b64encode(self._tls.certificate).decode()
        path = directory / "kubeconfig"
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": cluster}], "users": [{"name": "router", "user": {"token": self.token}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "router", "namespace": self.namespace}}]}))
        return path

    # ---- objects

    def apply(self, *objects):
        """Creates each object, or replaces the one of its name. A replaced object keeps its uid."""
        with self._changed:
            for given in objects:
                resource = self._resource_of(given)
                self._put(resource, copy.deepcopy(given))

    def edit(self, plural, name, change, *, group=None, namespace=None):
        """Applies `change(object)` to a copy of it, and stores that."""
        with self._changed:
            resource, key = self._find(plural, name, group, namespace)
            edited = copy.deepcopy(self._objects[resource][key].object)
            change(edited)
            self._put(resource, edited)

    def delete(self, plural, name, *, group=None, namespace=None):
        with self._changed:
            resource, key = self._find(plural, name, group, namespace)
            self._remove(resource, key)

    def get(self, plural, name, *, group=None, namespace=None):
        """A copy; None when there is none."""
        with self._changed:
            try:
                resource, key = self._find(plural, name, group, namespace)
            except KeyError:
                return None
            return copy.deepcopy(self._objects[resource][key].object)

    def watches(self, plural=None):
        """How many watches stand (of one kind)."""
        return sum(1 for r in self.requests if r.watch and r.status == 0 and (plural is None or (r.resource and r.resource[2] == plural)))

    def count(self, plural, *, method="GET", watch=None, status=None):
        return sum(1 for r in self.requests if r.resource and r.resource[2] == plural and r.method == method
                   and (watch is None or r.watch == watch) and (status is None or r.status == status))

    # ---- under the lock

    def _resource_of(self, given):
        group, _, version = given["apiVersion"].rpartition("/")
        for resource, kind in KINDS.items():
            if resource[:2] == (group, version) and kind == given["kind"]:
                return resource
        raise KeyError(f"{given['apiVersion']} {given['kind']}")

    def _find(self, plural, name, group, namespace):
        for resource, objects in self._objects.items():
            key = (namespace or self.namespace, name)
            if resource[2] == plural and group in (None, resource[0]) and key in objects:
                return resource, key
        raise KeyError(f"{plural} {name}")

    def _put(self, resource, given):
        meta = given.setdefault("metadata", {})
        meta.setdefault("namespace", self.namespace)
        key = (meta["namespace"], meta["name"])
        before = self._objects[resource].get(key)
        old = before.object["metadata"] if before else {}
        meta["uid"] = meta.get("uid") or old.get("uid") or str(uuid.uuid4())
        meta["creationTimestamp"] = old.get("creationTimestamp") or meta.get("creationTimestamp") or _now()
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        after = Stored(given, self._version, json.dumps(given).encode())
        self._objects[resource][key] = after
        self._log(Change(self._version, resource, before, after))
        return after

    def _remove(self, resource, key):
        before = self._objects[resource].pop(key)
        self._version += 1
        last = copy.deepcopy(before.object)
        last["metadata"]["resourceVersion"] = str(self._version)
        self._log(Change(self._version, resource, Stored(last, self._version, json.dumps(last).encode()), None))
        return last

    def _log(self, change):
        if len(self._changes) == self._changes.maxlen:
            self._oldest = self._changes[0].version
        self._changes.append(change)
        self._changed.notify_all()

    # ---- who may do what

    def _served(self, resource):
        return (resource in KINDS or resource in REVIEWS) and not {resource[2], f"{resource[2]}.{resource[0]}"} & self.absent

    def _allowed(self, resource, verb, name):
        def covers(values, value):
            return not values or value in values or "*" in values
        return self.rules is None or any(
            resource[0] in rule.get("apiGroups", []) and resource[2] in rule.get("resources", []) and covers(rule.get("verbs"), verb)
            and covers(rule.get("resourceNames"), name) for rule in self.rules)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kube: FakeKube

    def setup(self):
        super().setup()
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.kube._changed:
            self.kube._connections.add(self.connection)

    def finish(self):
        with self.kube._changed:
            self.kube._connections.discard(self.connection)
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _serve(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        resource, namespace, name = _parse_path(url.path)
        watch = query.get("watch") in ("1", "true")
        self.request_seen = Request(self.command, url.path, query, {k.lower(): v for k, v in self.headers.items()}, resource, watch)
        with self.kube._changed:
            self.kube.requests.append(self.request_seen)
            fault = next((f for f in self.kube.faults if f.match(self.request_seen)), None)
            if fault:
                fault.times -= 1
                if fault.times <= 0:
                    self.kube.faults.remove(fault)
        if fault:
            return self._fault(fault)
        try:
            self._admit(resource, name, watch)
            if resource is None:
                self._answer(200, self._other(url.path))
            elif resource in REVIEWS:
                self._answer(201, self._review(resource, json.loads(body)))
            elif self.command == "GET" and watch:
                self._watch(resource, namespace, query)
            elif self.command == "GET" and not name:
                self._list(resource, namespace, query)
            else:
                self._answer(*self._single(resource, namespace, name, body))
        except Refused as refused:
            self._answer(refused.status, _status(refused.status, refused.reason, str(refused)))

    def _fault(self, fault):
        if fault.status == 0:
            self.request_seen.status = -1
            self.close_connection = True
            return
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        body = fault.body if fault.body is not None else json.dumps(_status(fault.status, "Scripted", "as the test says")).encode()
        self._send(fault.status, body, headers)

    def _admit(self, resource, name, watch):
        kube = self.kube
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or token not in kube.users:
            raise Refused(401, "Unauthorized", "Unauthorized")
        if resource is None:
            return
        verb = {"GET": "get" if name else "watch" if watch else "list", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[self.command]
        if not kube._allowed(resource, verb, name):
            what = f'{resource[2]}{"." + resource[0] if resource[0] else ""}'
            raise Refused(403, "Forbidden", f'{what} is forbidden: User "{kube.users[token]}" cannot {verb} resource "{resource[2]}" in API group "{resource[0]}"')
        if not kube._served(resource):
            raise Refused(404, "NotFound", "the server could not find the requested resource")

    def _other(self, path):
        """Discovery, as far as clients look."""
        match = re.fullmatch(r"/apis/([^/]+)/([^/]+)|/api/(v1)", path)
        if match:
            group, version = (match[1], match[2]) if match[1] else ("", match[3])
            found = [{"name": r[2], "kind": KINDS[r], "namespaced": True, "verbs": ["get", "list", "watch"]}
                     for r in KINDS if r[:2] == (group, version) and self.kube._served(r)]
            if found:
                return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group}/{version}".lstrip("/"), "resources": found}
        elif path == "/version":
            return {"major": "1", "minor": "35", "gitVersion": "v1.35.0-fake"}
        raise Refused(404, "NotFound", "the server could not find the requested resource")

    def _review(self, resource, body):
        if self.command != "POST":
            raise Refused(405, "MethodNotAllowed", "create only")
        spec, readers = body.get("spec", {}), self.kube.readers
        if resource[2] == "tokenreviews":
            user = readers.get(spec.get("token"))
            body["status"] = {"authenticated": True, "user": {"username": user[0], "groups": ["system:authenticated"]}} if user else {"authenticated": False}
        else:
            attributes = spec.get("nonResourceAttributes", {})
            allowed = any(user == spec.get("user") and may for user, may in readers.values())
            body["status"] = {"allowed": bool(allowed and attributes == {"path": "/metrics", "verb": "get"})}
        return body

    def _single(self, resource, namespace, name, body):
        kube, given = self.kube, json.loads(body) if body else None
        with kube._changed:
            if self.command == "POST":
                given.setdefault("metadata", {}).setdefault("namespace", namespace or kube.namespace)
                if not given["metadata"].get("name"):
                    given["metadata"]["name"] = given["metadata"].get("generateName", "") + uuid.uuid4().hex[:5]
                if (given["metadata"]["namespace"], given["metadata"]["name"]) in kube._objects[resource]:
                    raise Refused(409, "AlreadyExists", f'{resource[2]} "{given["metadata"]["name"]}" already exists')
                given["metadata"].pop("resourceVersion", None)
                return 201, kube._put(resource, given).object
            key = (namespace, name)
            stored = kube._objects[resource].get(key)
            if stored is None:
                raise Refused(404, "NotFound", f'{resource[2]} "{name}" not found')
            if self.command == "GET":
                return 200, stored.object
            if self.command == "DELETE":
                return 200, kube._remove(resource, key)
            if self.command == "PATCH":
                given = _merge(copy.deepcopy(stored.object), given)
            elif given["metadata"].get("resourceVersion") not in (None, "", str(stored.version)):
                raise Refused(409, "Conflict", f'Operation cannot be fulfilled on {resource[2]} "{name}": the object has been modified')
            given["metadata"].update(namespace=namespace, name=name)
            return 200, kube._put(resource, given).object

    def _list(self, resource, namespace, query):
        kube = self.kube
        limit = int(query.get("limit") or 0)
        with kube._changed:
            if query.get("continue"):
                try:
                    version, chosen = kube._pages.pop(query["continue"])
                except KeyError:
                    raise Refused(410, "Expired", "The provided continue parameter is too old") from None
            else:
                version = kube._version
                chosen = [s for (ns, _), s in sorted(kube._objects[resource].items())
                          if namespace in (None, ns) and s.selected(query.get("labelSelector"), query.get("fieldSelector"))]
            meta = {"resourceVersion": str(version)}
            if limit and len(chosen) > limit and query.get("resourceVersion") != "0":
                meta["continue"] = uuid.uuid4().hex
                meta["remainingItemCount"] = len(chosen) - limit
                kube._pages[meta["continue"]] = (version, chosen[limit:])
                chosen = chosen[:limit]
        head = {"kind": KINDS[resource] + "List", "apiVersion": f"{resource[0]}/{resource[1]}".lstrip("/"), "metadata": meta}
        self._send(200, json.dumps(head).encode()[:-1] + b', "items": [' + b",".join(s.text for s in chosen) + b"]}")

    def _watch(self, resource, namespace, query):
        kube = self.kube
        if query.get("sendInitialEvents"):
            raise Refused(422, "Invalid", "sendInitialEvents: Forbidden: watch list is not served here")
        labels, fields = query.get("labelSelector"), query.get("fieldSelector")
        bookmarks = query.get("allowWatchBookmarks") in ("1", "true")
        end = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
        with kube._changed:
            epoch, since = kube._epoch, int(query.get("resourceVersion") or 0)
            initial = []
            if since == 0:
                since = kube._version
                initial = [_event("ADDED", s.text) for (ns, _), s in sorted(kube._objects[resource].items())
                           if namespace in (None, ns) and s.selected(labels, fields)]
            elif since < kube._oldest:
                initial, end = [_event("ERROR", json.dumps(_status(410, "Expired", f"too old resource version: {since} ({kube._oldest})")).encode())], 0
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        next_bookmark = time.monotonic() + kube.bookmark_seconds
        try:
            self._chunk(initial)
            while time.monotonic() < end:
                with kube._changed:
                    if kube._version <= since and kube._epoch == epoch:
                        kube._changed.wait(min(end, next_bookmark) - time.monotonic() if bookmarks else end - time.monotonic())
                    if kube._epoch != epoch or not kube._server:
                        break
                    out, changes = [], []
                    for change in reversed(kube._changes):
                        if change.version <= since:
                            break
                        changes.append(change)
                    since = kube._version
                for change in reversed(changes):
                    out += _seen(change, resource, namespace, labels, fields)
                if bookmarks and not out and time.monotonic() >= next_bookmark:
                    out = [_event("BOOKMARK", json.dumps({"kind": KINDS[resource], "apiVersion": f"{resource[0]}/{resource[1]}".lstrip("/"),
                                                          "metadata": {"resourceVersion": str(since), "creationTimestamp": None}}).encode())]
                if time.monotonic() >= next_bookmark:
                    next_bookmark = time.monotonic() + kube.bookmark_seconds
                self._chunk(out)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        finally:
            self.request_seen.status = 200

    def _chunk(self, events):
        if events:
            data = b"".join(events)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

    def _answer(self, status, answer):
        self._send(status, json.dumps(answer).encode())

    def _send(self, status, body, headers=()):
        self.request_seen.status = status
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **dict(headers)}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


def _parse_path(path):
    """(resource or None, namespace or None, name or None)"""
    match = re.fullmatch(r"/(?:api/(v1)|apis/([^/]+)/([^/]+))(?:/namespaces/([^/]+))?/([^/]+)(?:/([^/]+))?", path)
    if not match or match[5] == "namespaces":
        return None, None, None
    return (match[2] or "", match[1] or match[3], match[5]), match[4], match[6]


def _seen(change, resource, namespace, labels, fields):
    """A change as one watch sees it: [] or one event."""
    if change.resource != resource:
        return []
    newest = change.after or change.before
    if namespace not in (None, newest.object["metadata"]["namespace"]):
        return []
    before = change.before is not None and change.before.selected(labels, fields)
    after = change.after is not None and change.after.selected(labels, fields)
    if after:
        return [_event("MODIFIED" if before else "ADDED", change.after.text)]
    return [_event("DELETED", newest.text)] if before else []


def _event(kind, text):
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), text)


def _merge(target, patch):
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value
    return target


def _status(code, reason, message):
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}


def _now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class _self_signed:
    """A certificate for 127.0.0.1, and a server's TLS context with it."""

    def __init__(self):
        import ipaddress
        import tempfile

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake-kube")])
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
                       .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
                       .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
                       .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256()))
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM)
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(secret + self.certificate)
            file.flush()
            self.context.load_cert_chain(file.name)
