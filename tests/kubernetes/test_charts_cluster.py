"""What the charts render, as the real API server sees it: every field known and valid; and the standalone chart at work."""

import httpx
import pytest
import yaml

from control_plane import BIN
from guide import Guide
from harness import GUIDE_PROMPT, MODEL, wait_until
from install import CHARTS, LABEL, Install

MONITORING = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
FOREIGN = {"gateway.kgateway.dev", "networking.gke.io", "monitoring.googleapis.com"}  # kinds whose definitions are not installed here
SWITCHES = {
    "llm-d-infra": {"gateway": {"gatewayClassName": "istio", "service": {"type": "ClusterIP"},
                                "destinationRule": {"enabled": True, "host": "pool-epp.x.svc.cluster.local"}}, "ingress": {"enabled": True}},
    "inferencepool": {"inferencePool": {"apiVersion": "inference.networking.k8s.io/v1", "modelServers": {"matchLabels": LABEL}, "failureMode": "FailOpen",
                                        "targetPorts": [{"number": 8000}, {"number": 8001}]},
                      "provider": {"name": "istio"},
                      "inferenceExtension": {"replicas": 2, "networkPolicy": {"enabled": True}, "leaderElection": {"enabled": True},
                                             "monitoring": {"auth": {"enabled": True}, **MONITORING}}},
    "llm-d-modelservice": {"engine": "sim", "decode": {"monitoring": {"podmonitor": {"enabled": True}}}, "prefill": {"create": True},
                           "kvEvents": {"mode": "dial", "replayPort": 5558}},
    "warmpath": {"replicas": 2, "endpoints": {"matchLabels": LABEL}, "networkPolicy": {"enabled": True}, "monitoring": MONITORING},
}


def refused(cluster, namespace, text):
    """What the API server says against the objects of `text`, with every field checked; nothing is made."""
    objects = [o for o in yaml.safe_load_all(text) if o and o["apiVersion"].split("/")[0] not in FOREIGN]
    assert objects
    file = cluster.directory / f"{namespace}-strict.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    done = cluster.run(BIN / "kubectl", "apply", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", file, check=False)
    return done.stderr if done.returncode != 0 or "Warning" in done.stderr else ""


def test_a_field_that_does_not_exist_is_seen(cluster, namespace):
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x"}, "nonsense": True}
    assert "nonsense" in refused(cluster, namespace, yaml.safe_dump(account))


@pytest.mark.parametrize("environment", ["default", "istio", "kgateway", "gke", "sim"])
def test_the_guides_objects_are_strictly_valid(cluster, namespace, environment):
    guide = Guide(cluster, namespace=namespace, environment=environment)
    assert refused(cluster, namespace, guide.helmfile("template", "--include-crds=false")) == ""


@pytest.mark.parametrize("chart", SWITCHES)
def test_every_switch_renders_strictly_valid_objects(cluster, namespace, chart):
    values = cluster.directory / f"{chart}-switches.yaml"
    values.write_text(yaml.safe_dump(SWITCHES[chart]))
    done = cluster.run(BIN / "helm", "template", "x", CHARTS / chart, "-n", namespace, "-f", values, "--kube-version", "1.35.4",
                       "--api-versions", "monitoring.coreos.com/v1", "--api-versions", "networking.istio.io/v1beta1")
    assert refused(cluster, namespace, done.stdout) == ""


def test_the_standalone_chart_routes_without_a_gateway(cluster, namespace):
    install = Install(cluster, namespace).engines()
    install.engine_pods()
    values = cluster.directory / "standalone.yaml"
    values.write_text(yaml.safe_dump({"endpoints": {"matchLabels": LABEL}, "logVerbosity": 4}))
    cluster.run(BIN / "helm", "install", "router", CHARTS / "warmpath", "-n", namespace, "-f", values)
    service = next(s for s in cluster.api.items(f"/api/v1/namespaces/{namespace}/services") if s["metadata"]["name"].startswith("router"))
    url = cluster.service_url(namespace, service["metadata"]["name"], 80)
    cluster.wait_pods(namespace, "app.kubernetes.io/instance=router", 1)

    def cached():
        answer = httpx.post(url + "/v1/completions", json={"model": MODEL, "prompt": GUIDE_PROMPT, "max_tokens": 20}, timeout=30)
        return answer.status_code == 200 and answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 128
    wait_until(cached, lambda: f"the repeat meets its cache: {cluster.explain(namespace)}", 60)
    assert cluster.run(BIN / "helm", "test", "router", "-n", namespace, "--timeout", "60s", check=False).returncode == 0
    cluster.helm("uninstall", "router", "-n", namespace)
