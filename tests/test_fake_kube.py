"""The scripted API server keeps the rules of LIST and WATCH that the router's tests lean on."""

import json

import httpx
import pytest

from fake_kube import NAMESPACE, OLD_GROUP, TOKEN, FakeKube, Fault, labels_match, pod, pool
from harness import wait_until

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


@pytest.fixture(params=[False, True], ids=["http", "https"])
def kube(request):
    with FakeKube(tls=request.param, bookmark_seconds=0.05) as server:
        yield server


@pytest.fixture
def client(kube, tmp_path):
    verify = True
    if kube.url.startswith("https"):
        verify = str(tmp_path / "ca.pem")
        (tmp_path / "ca.pem").write_bytes(kube._tls.certificate)
    with httpx.Client(base_url=kube.url, headers={"Authorization": f"Bearer {TOKEN}"}, verify=verify, timeout=10) as c:
        yield c


def watch(client, path, version, kinds=("ADDED", "MODIFIED", "DELETED", "ERROR"), **query):
    """Generates (type, name) of a watch's events."""
    with client.stream("GET", path, params={"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", **query}) as stream:
        for line in stream.iter_lines():
            event = json.loads(line)
            if event["type"] in kinds:
                yield event["type"], event["object"].get("metadata", {}).get("name") or event["object"].get("code")


def test_a_list_then_a_watch_miss_nothing(kube, client):
    kube.apply(*[pod(f"p{i}", f"127.0.0.{i}", {"app": "a"}) for i in range(5)], pod("other", "127.0.1.1", {"app": "b"}))
    names, token, version = [], "", None
    while True:
        page = client.get(PODS, params={"limit": 2, "labelSelector": "app=a", "continue": token}).json()
        version = version or page["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
        if not token:
            break
    assert names == [f"p{i}" for i in range(5)]
    kube.delete("pods", "p0")
    kube.edit("pods", "other", lambda p: p["metadata"]["labels"].update(app="a"))
    kube.edit("pods", "p1", lambda p: p["metadata"]["labels"].update(app="b"))
    kube.edit("pods", "p2", lambda p: p["status"].update(podIP="127.0.0.9"))
    events = watch(client, PODS, version, labelSelector="app=a")
    assert [next(events) for _ in range(4)] == [("DELETED", "p0"), ("ADDED", "other"), ("DELETED", "p1"), ("MODIFIED", "p2")]
    bookmark = watch(client, PODS, version, kinds=("BOOKMARK",))
    assert next(bookmark)[0] == "BOOKMARK"


def test_old_versions_are_gone_after_a_compaction(kube, client):
    kube.apply(pod("a", "127.0.0.1", {}))
    version = client.get(PODS).json()["metadata"]["resourceVersion"]
    kube.compact()
    assert list(watch(client, PODS, version)) == [("ERROR", 410)]


def test_faults_rules_and_absent_kinds_answer_as_a_server_would(kube, client):
    kube.apply(pool("p", {"a": "b"}), pool("p", {"a": "b"}, group=OLD_GROUP))
    pools = f"/apis/inference.networking.k8s.io/v1/namespaces/{NAMESPACE}/inferencepools"
    assert client.get(pools, params={"fieldSelector": "metadata.name=p"}).json()["items"][0]["spec"]["targetPorts"] == [{"number": 8000}]
    kube.faults = [Fault(429, lambda r: r.resource and r.resource[2] == "pods", retry_after=3), Fault(0)]
    assert (client.get(PODS).status_code, client.headers["authorization"]) == (429, f"Bearer {TOKEN}")
    with pytest.raises(httpx.HTTPError):
        client.get(PODS)
    assert client.get(PODS).status_code == 200
    assert client.get(PODS, headers={"Authorization": "Bearer wrong"}).status_code == 401
    kube.rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
    assert [client.get(PODS).status_code, client.get(PODS, params={"watch": "1"}).status_code, client.get(pools).status_code] == [200, 403, 403]
    kube.rules, kube.absent = None, {"inferencepools.inference.networking.k8s.io"}
    assert client.get(pools).status_code == 404
    assert client.get("/apis/inference.networking.k8s.io/v1").status_code == 404
    assert client.get(pools.replace("k8s.io/v1/", "x-k8s.io/v1alpha2/")).status_code == 200


def test_an_outage_cuts_watches_and_keeps_objects(kube, client):
    kube.apply(pod("a", "127.0.0.1", {}))
    events = watch(client, PODS, "0")
    assert next(events) == ("ADDED", "a")
    assert kube.watches("pods") == 1
    with kube.outage(), pytest.raises(httpx.HTTPError):
        next(events)
    wait_until(lambda: kube.watches() == 0, "no watch stands")
    assert [item["metadata"]["name"] for item in client.get(PODS).json()["items"]] == ["a"]


def test_leases_are_guarded_by_their_version(kube, client):
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}}
    first = client.post(leases, json=lease)
    assert (first.status_code, client.post(leases, json=lease).status_code) == (201, 409)
    held = first.json() | {"spec": {"holderIdentity": "b"}}
    assert client.put(leases + "/l", json=held).status_code == 200
    assert client.put(leases + "/l", json=held).status_code == 409
    assert kube.get("leases", "l")["spec"] == {"holderIdentity": "b"}


@pytest.mark.parametrize("selector, labels, matches", [
    ("", {}, True), ("a=b", {"a": "b"}, True), ("a==b,c!=d", {"a": "b"}, True), ("a=b", {}, False), ("a in (b, c)", {"a": "c"}, True),
    ("a notin (b,c)", {"a": "c"}, False), ("a", {"a": ""}, True), ("!a", {"a": ""}, False),
])
def test_label_selectors(selector, labels, matches):
    assert labels_match(selector, labels) == matches
