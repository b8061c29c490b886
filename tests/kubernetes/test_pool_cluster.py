"""The picker against the real API server: what it may read, what it does when it may not or cannot, replicas, reused addresses."""

import json
import time

import httpx
import pytest

from api import path
from guide import Guide
from harness import GUIDE_PROMPT, MODEL, wait_until
from install import Install, complete

CACHED = 128  # of the guide's 192 tokens: two blocks, since an engine never reuses the last token


def test_two_replicas_dial_the_engines_and_agree_within_two_seconds(cluster, namespace):
    install = Install(cluster, namespace).pool(replicas=2).engines()
    pods, pickers = install.engine_pods(), install.pickers(2)
    install.wait_known(pickers)
    complete(pods[0], GUIDE_PROMPT)
    since = time.monotonic()
    wait_until(lambda: [sorted(p.view(GUIDE_PROMPT).values()) for p in pickers] == [[0, CACHED], [0, CACHED]],
               lambda: f"both know it: {[p.view(GUIDE_PROMPT) for p in pickers]}", 2)
    assert time.monotonic() - since < 2

    # A container of the same pod starts again: its cache is gone, and so is what is known of it.
    container = cluster.node.worker(namespace, pods[0]["metadata"]["name"]).containers["vllm"]
    container.process.kill()
    wait_until(lambda: [set((p.view(GUIDE_PROMPT) or {}).values()) <= {0} for p in pickers] == [True, True], "both forgot it")
    wait_until(lambda: container.restarts == 1 and len(cluster.pods(namespace, install.engine_label, ready=True)) == 2, "the engine is back", 60)
    install.wait_known(pickers)

    # A new pod gets the address of a deleted one: nothing of the old one is the new one's.
    complete(pods[1], GUIDE_PROMPT)
    wait_until(lambda: max(pickers[0].view(GUIDE_PROMPT).values()) == CACHED, "known")
    address = pods[1]["status"]["podIP"]
    cluster.node.addresses.reuse_next(address)
    cluster.kubectl("delete", "pod", pods[1]["metadata"]["name"], "-n", namespace, "--grace-period=1", "--wait=false")
    wait_until(lambda: any(p["status"].get("podIP") == address and p["metadata"]["uid"] != pods[1]["metadata"]["uid"]
                           for p in cluster.pods(namespace, install.engine_label, ready=True)), "a new pod at the address", 60)
    install.wait_known(pickers)
    assert all(max(p.view(GUIDE_PROMPT).values()) == 0 for p in pickers)

    # Nothing is written, and nothing read that the role does not allow.
    text = "\n".join(cluster.logs(namespace, install.epp_label, "--tail", "-1").splitlines())
    assert "403" not in text
    cluster.check()


@pytest.mark.parametrize("version", ["inference.networking.k8s.io/v1", "inference.networking.x-k8s.io/v1alpha2"])
def test_a_kind_that_is_forbidden_is_off_and_nothing_else(cluster, namespace, version):
    install = Install(cluster, namespace).pool(version=version)
    install.remove_rule("inferenceobjectives")
    cluster.kubectl("delete", "pod", "-l", install.epp_label, "-n", namespace, "--wait=false")
    install.engines(1)
    install.engine_pods(1)
    wait_until(lambda: len(cluster.pods(namespace, install.epp_label)) == 1, "one picker")
    pickers = install.pickers()
    install.wait_known(pickers, 1)
    assert cluster.api.get(path("Pod", namespace, pickers[0].name))["status"]["containerStatuses"][0]["restartCount"] == 0
    log = cluster.logs(namespace, install.epp_label, "--tail", "-1")
    assert any("inferenceobjectives" in line and "403" in line for line in log.splitlines()), log[-3000:]
    rights = cluster.kubectl("auth", "can-i", "--list", "-n", namespace, "--as", install.account)
    assert not [row for row in rights.splitlines() if any(verb in row for verb in ("create", "update", "patch", "delete")) and "selfsubject" not in row]


def test_missing_definitions_are_lived_with(cluster, namespace):
    names = [f"{plural}.{group}" for plural in ("inferenceobjectives", "inferencemodelrewrites") for group in ("llm-d.ai", "inference.networking.x-k8s.io")]
    try:
        for name in names:
            cluster.api.delete(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        install = Install(cluster, namespace).pool().engines(1)
        install.engine_pods(1)
        install.wait_known(install.pickers(), 1)
    finally:
        cluster.control_plane.install_crds()


def test_one_leader_is_ready_and_its_end_makes_another(cluster, namespace):
    install = Install(cluster, namespace).pool(replicas=2, leaderElection={"enabled": True})
    ready = lambda: cluster.pods(namespace, install.epp_label, ready=True)  # noqa: E731
    wait_until(lambda: len(ready()) == 1 and len(cluster.pods(namespace, install.epp_label)) == 2,
               lambda: f"one of two ready: {cluster.explain(namespace)}", 60)
    leader = ready()[0]
    leases = path(("apis/coordination.k8s.io/v1", "leases"), namespace)
    lease = cluster.api.items(leases)[0]
    assert lease["metadata"]["name"] == f"epp-{namespace}-pool.llm-d.ai"
    assert leader["metadata"]["name"] in lease["spec"]["holderIdentity"]
    assert len(ready()) == 1
    cluster.kubectl("delete", "pod", leader["metadata"]["name"], "-n", namespace, "--wait=false")
    wait_until(lambda: ready() and ready()[0]["metadata"]["name"] != leader["metadata"]["name"], "another leader", 60)


def test_metrics_are_for_those_whom_the_cluster_allows(cluster, namespace):
    install = Install(cluster, namespace).pool(monitoring={"auth": {"enabled": True}})
    picker = install.pickers()[0]
    token = lambda account: {"authorization": "Bearer " + cluster.kubectl("create", "token", account, "-n", namespace).strip()}  # noqa: E731
    assert picker.get("/metrics").status_code == 401
    assert picker.get("/metrics", authorization="Bearer nonsense").status_code == 401
    assert picker.get("/metrics", **token("default")).status_code == 403
    allowed = picker.get("/metrics", **token("pool-epp-metrics-reader"))
    assert allowed.status_code == 200 and "warmpath_" in allowed.text


def test_the_last_known_pods_serve_while_the_api_is_away(cluster, namespace):
    install = Install(cluster, namespace).pool().engines()
    pods, pickers = install.engine_pods(), install.pickers()
    install.wait_known(pickers)
    picker = pickers[0]
    complete(pods[0], GUIDE_PROMPT)
    wait_until(lambda: max(picker.view(GUIDE_PROMPT).values()) == CACHED, "known")
    cluster.stop_api()
    try:
        end = time.monotonic() + 8
        while time.monotonic() < end:
            assert sorted(picker.view(GUIDE_PROMPT).values()) == [0, CACHED] and len(picker.endpoints()) == 2
            assert picker.get("/readyz").status_code == 200
            time.sleep(0.2)
        complete(pods[1], GUIDE_PROMPT)
        wait_until(lambda: sorted(picker.view(GUIDE_PROMPT).values()) == [CACHED, CACHED], "events are heard meanwhile")
    finally:
        cluster.start_api()
    wait_until(lambda: cluster.api.find(path("Namespace", None, namespace)), "the API is back", 60)
    cluster.kubectl("delete", "pod", pods[0]["metadata"]["name"], "-n", namespace, "--grace-period=1", "--wait=false")
    gone = f"http://{pods[0]['status']['podIP']}:8000"
    wait_until(lambda: gone not in {e["url"] for e in picker.endpoints()}, "the deletion is seen", 60)
    install.wait_known(pickers)
    assert install.pickers()[0].name == picker.name


def test_the_guide_in_its_default_environment_with_vllms_command_line_and_the_older_pool(cluster, namespace):
    older = "inference.networking.x-k8s.io/v1alpha2"
    guide = Guide(cluster, namespace=namespace, environment=None, state=f"inferencePool.apiVersion={older}")
    guide.apply()
    guide.wait_installed()
    pods = cluster.pods(namespace, guide.decode_label)
    words = " ".join(w for c in pods[0]["spec"]["containers"] for w in [*c.get("command", []), *c.get("args", [])])
    assert words.startswith("vllm serve Qwen/Qwen3-0.6B") and f"gaie-kv-events-epp.{namespace}.svc.cluster.local:5557" in words
    assert "gaie-kv-events" in cluster.kubectl("get", f"inferencepools.{older.split('/')[0]}", "-n", namespace)
    assert guide.ask()[1] is None
    scores = guide.ask_until_cached(GUIDE_PROMPT, 2)
    assert set(scores) <= guide.engine_ips()
    assert httpx.get(guide.url() + "/v1/models").json()["data"][0]["id"] == MODEL
    guide.helmfile("destroy")
    wait_until(lambda: not guide.everything(), lambda: f"nothing left: {guide.everything()}", 90)
    assert json.loads(cluster.helm("list", "-n", namespace, "-o", "json")) == []
