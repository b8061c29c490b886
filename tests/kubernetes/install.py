"""Pool and engines by helm alone, without a gateway: the picker dials the engines' events, so that it may have several replicas."""

import httpx
import yaml

from api import path
from cluster import SLOW
from control_plane import BIN
from harness import MODEL, ROOT, wait_until

CHARTS = ROOT / "deploy/charts"
LABEL = {"llm-d.ai/inferenceServing": "rig"}


class Install:
    def __init__(self, cluster, namespace, release="pool"):
        self.cluster, self.namespace, self.release = cluster, namespace, release
        self.epp = f"{release}-epp"
        self.epp_label = f"inferencepool={self.epp}"
        self.engine_label = "llm-d.ai/role=decode"
        self.account = f"system:serviceaccount:{namespace}:{self.epp}"

    def _helm(self, verb, release, chart, values):
        file = self.cluster.directory / f"{self.namespace}-{release}.yaml"
        file.write_text(yaml.safe_dump(values))
        self.cluster.run(BIN / "helm", verb, release, CHARTS / chart, "-n", self.namespace, "-f", file)

    def pool(self, verb="install", version="inference.networking.k8s.io/v1", **extension):
        config = (ROOT / "deploy/config/precise-prefix.yaml").read_text()
        self._helm(verb, self.release, "inferencepool", {
            "inferencePool": {"apiVersion": version, "modelServers": {"matchLabels": LABEL}},
            "inferenceExtension": {"logVerbosity": 4, "pluginsConfigFile": "precise.yaml", "pluginsCustomConfig": {"precise.yaml": config},
                                   "hfToken": {"secretName": "llm-d-hf-token"}, "terminationGracePeriodSeconds": 10, **extension}})
        return self

    def engines(self, replicas=2):
        self._helm("install", "ms", "llm-d-modelservice", {
            "engine": "sim", "modelArtifacts": {"labels": LABEL}, "kvEvents": {"mode": "dial", "port": 5557},
            "routing": {"httpRoute": {"create": False}, "inferencePool": {"name": self.release}}, "decode": {"replicas": replicas}})
        return self

    def pickers(self, count=1):
        return [Picker(p) for p in self.cluster.wait_pods(self.namespace, self.epp_label, count)]

    def engine_pods(self, count=2):
        return self.cluster.wait_pods(self.namespace, self.engine_label, count)

    def wait_known(self, pickers, count=2):
        """Every picker has exactly these engines and hears their events."""
        def same():
            urls = {f"http://{p['status']['podIP']}:8000" for p in self.cluster.pods(self.namespace, self.engine_label, ready=True)}
            return len(urls) == count and all(
                {e["url"] for e in picker.endpoints()} == urls and all(e["events"]["connected"] and e["tokenizer"]["state"] == "loaded"
                                                                       for e in picker.endpoints()) for picker in pickers)
        wait_until(same, lambda: f"{count} engines known: {[p.endpoints() for p in pickers]} {self.cluster.explain(self.namespace)}", SLOW)

    def remove_rule(self, resource):
        """Takes a resource out of the picker's role."""
        where = path(("apis/rbac.authorization.k8s.io/v1", "roles"), self.namespace, self.epp)
        role = self.cluster.api.get(where)
        for rule in role["rules"]:
            rule["resources"] = [r for r in rule["resources"] if r != resource]
        role["rules"] = [r for r in role["rules"] if r["resources"]]
        self.cluster.api.request("PUT", where, role)


class Picker:
    def __init__(self, pod):
        self.pod, self.name, self.address = pod, pod["metadata"]["name"], pod["status"]["podIP"]
        self.api = f"http://{self.address}:9090"

    def get(self, where, **headers):
        return httpx.get(self.api + where, timeout=10, headers=headers)

    def endpoints(self):
        try:
            return self.get("/api/v1/endpoints").json()["endpoints"]
        except (httpx.HTTPError, KeyError):
            return []

    def view(self, prompt):
        """{engine: tokens of the prompt that it has cached, as this picker sees it}."""
        answer = httpx.post(self.api + "/api/v1/explain?path=/v1/completions", json={"model": MODEL, "prompt": prompt}, timeout=10)
        return {e["name"]: e["cached_tokens"] for e in answer.json()["endpoints"]} if answer.status_code == 200 else None


def complete(pod, prompt, port=8000):
    answer = httpx.post(f"http://{pod['status']['podIP']}:{port}/v1/completions", json={"model": MODEL, "prompt": prompt, "max_tokens": 50}, timeout=30)
    assert answer.status_code == 200, answer.text
