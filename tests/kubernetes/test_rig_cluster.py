"""The rig itself: pods of plain manifests run, are reached, logged, replaced and removed as in a cluster."""

import httpx

from api import path
from harness import wait_until

SIM = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "engine"},
       "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "engine"}},
                "template": {"metadata": {"labels": {"app": "engine"}},
                             "spec": {"containers": [{
                                 "name": "engine", "image": "ghcr.io/warmpath/warmpath:0.1.0", "args": ["sim", "--port", "8000", "some-model"],
                                 "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                                 "ports": [{"containerPort": 8000, "name": "http"}],
                                 "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}}}]}}}}
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "engine"},
           "spec": {"selector": {"app": "engine"}, "ports": [{"port": 80, "targetPort": "http"}]}}


def test_pods_run_behind_a_service_and_end(cluster, namespace):
    cluster.api.create(path("Deployment", namespace), SIM)
    cluster.api.create(path("Service", namespace), SERVICE)
    pods = cluster.wait_pods(namespace, "app=engine", 2)
    url = cluster.service_url(namespace, "engine", 80)
    assert httpx.get(url + "/v1/models").json()["data"][0]["id"] == "some-model"
    assert "engine" in cluster.kubectl("logs", "-l", "app=engine", "-n", namespace, "--tail", "20")
    table = [line.split() for line in cluster.kubectl("get", "pods", "-n", namespace, "--no-headers").splitlines()]
    assert [row[1:4] for row in table] == [["1/1", "Running", "0"]] * 2

    token = cluster.node.worker(namespace, pods[0]["metadata"]["name"]).containers["engine"].execute(
        ["cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"]).stdout
    assert token.count(".") == 2

    cluster.kubectl("rollout", "restart", "deployment/engine", "-n", namespace)
    old = {p["metadata"]["uid"] for p in pods}
    wait_until(lambda: not old & {p["metadata"]["uid"] for p in cluster.pods(namespace, "app=engine")}, "new pods", 60)
    cluster.wait_pods(namespace, "app=engine", 2)

    cluster.kubectl("scale", "deployment/engine", "--replicas=0", "-n", namespace)
    wait_until(lambda: not cluster.api.items(path("Pod", namespace)), "no pods", 60)
    cluster.check()


def test_a_container_that_ends_is_started_again_in_its_pod(cluster, namespace):
    cluster.api.create(path("Deployment", namespace), SIM)
    pod = cluster.wait_pods(namespace, "app=engine", 2)[0]
    container = cluster.node.worker(namespace, pod["metadata"]["name"]).containers["engine"]
    container.process.kill()

    def counted():
        now = cluster.api.get(path("Pod", namespace, pod["metadata"]["name"]))
        return now["status"]["containerStatuses"][0]["restartCount"] == 1 and cluster.is_ready(now)
    wait_until(counted, lambda: f"restarted once and ready: {cluster.explain(namespace)}", 30)
