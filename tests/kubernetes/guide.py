"""One install of the guide, and the steps its reader takes."""

import json
import re

import httpx

from api import path
from cluster import SLOW
from harness import GUIDE_PROMPT, MODEL, wait_until

NAMESPACE = "llm-d-precise"


class Guide:
    def __init__(self, cluster, namespace=NAMESPACE, postfix="", environment="sim", state=""):
        self.cluster, self.namespace, self.environment = cluster, namespace, environment
        self.state = ["--state-values-set", state] if state else []
        self.env = {"NAMESPACE": namespace, **({"RELEASE_NAME_POSTFIX": postfix} if postfix else {})}
        self.name = postfix or "kv-events"
        self.epp_label = f"inferencepool=gaie-{self.name}-epp"
        self.decode_label = f"llm-d.ai/role=decode,llm-d.ai/model=ms-{self.name}-llm-d-modelservice"
        self.gateway = f"infra-{self.name}-inference-gateway"
        self.decode = f"deployment/ms-{self.name}-llm-d-modelservice-decode"

    def helmfile(self, *args, environment=True):
        chosen = ["-e", self.environment] if environment and self.environment else []
        return self.cluster.helmfile(*args, *chosen, *self.state, "-n", self.namespace, **self.env)

    def apply(self):
        self.helmfile("apply")

    def wait_installed(self, engines=2):
        """Everything is ready: the endpoint picker, the gateway, the engines, and the picker hears the engines."""
        self.cluster.wait_pods(self.namespace, self.epp_label, 1)
        self.cluster.wait_pods(self.namespace, f"gateway.networking.k8s.io/gateway-name={self.gateway}", 1)
        self.cluster.wait_pods(self.namespace, self.decode_label, engines)
        self.wait_endpoints(engines)
        return self

    # ---- the picker ----
    def picker(self):
        return self.cluster.wait_pods(self.namespace, self.epp_label, 1)[0]

    def picker_url(self):
        return f"http://{self.picker()['status']['podIP']}:9090"

    def endpoints(self):
        try:
            answer = httpx.get(self.picker_url() + "/api/v1/endpoints", timeout=5)
            return answer.json()["endpoints"] if answer.status_code == 200 else []
        except httpx.HTTPError:
            return []

    def wait_endpoints(self, count, port=8000):
        """The picker has exactly the ready engine pods, healthy, with tokenizer."""
        def same():
            pods = {f"http://{p['status']['podIP']}:{port}" for p in self.cluster.pods(self.namespace, self.decode_label, ready=True)}
            found = self.endpoints()
            return len(pods) == count and {e["url"] for e in found} == pods and all(
                e["state"] == "healthy" and (e.get("tokenizer") or {"state": "loaded"})["state"] == "loaded" for e in found)
        wait_until(same, lambda: f"{count} endpoints: {json.dumps(self.endpoints())[:3000]} {self.cluster.explain(self.namespace)}", SLOW)

    def log(self, tail=100):
        return self.cluster.logs(self.namespace, self.epp_label, "--tail", str(tail))

    def score_lines(self):
        return [line for line in self.log(tail=-1).splitlines() if "Got pod scores" in line]

    def scores(self):
        return [json.loads(line[line.index("{"):])["scores"] for line in self.score_lines()]

    def beats(self):
        return re.findall(r'"metrics beat" logger="metrics" (.*)', self.log(tail=-1))

    # ---- the gateway ----
    def url(self):
        return self.cluster.service_url(self.namespace, f"{self.gateway}-istio", 80)

    def send(self, prompt=GUIDE_PROMPT, max_tokens=50, **more):
        return httpx.post(self.url() + "/v1/completions", json={"model": MODEL, "prompt": prompt, "max_tokens": max_tokens, **more}, timeout=60)

    def ask(self, prompt=GUIDE_PROMPT):
        """Sends the guide's request; (answer, the scores of the line it caused)."""
        before = len(self.scores())
        answer = self.send(prompt)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text} {self.cluster.explain(self.namespace)}"
        scores = wait_until(lambda: self.scores()[before:], lambda: f"a score line: {self.log()}")
        return answer.json(), scores[0]

    def ask_until_cached(self, prompt, blocks):
        """Repeats the request until `blocks` of its blocks are known somewhere; the scores then."""
        def known():
            scores = self.ask(prompt)[1]
            return scores if scores and max(scores.values()) == blocks else None
        return wait_until(known, lambda: f"{blocks} blocks: {self.scores()}", SLOW)

    def engine_ips(self):
        return {p["status"]["podIP"] for p in self.cluster.pods(self.namespace, self.decode_label, ready=True)}

    def everything(self):
        """What is left of the install in the namespace, and its cluster-wide objects."""
        kinds = ("deployments.apps,replicasets.apps,pods,services,serviceaccounts,configmaps,secrets,roles,rolebindings,leases,gateways,httproutes,"
                 "destinationrules.networking.istio.io,inferencepools.inference.networking.k8s.io,inferencepools.inference.networking.x-k8s.io,"
                 "networkpolicies,poddisruptionbudgets,jobs,persistentvolumeclaims")
        own = {"serviceaccount/default", "configmap/kube-root-ca.crt", "secret/llm-d-hf-token"}
        found = set(self.cluster.kubectl("get", kinds, "-n", self.namespace, "-o", "name").split())
        wide = self.cluster.kubectl("get", "clusterroles,clusterrolebindings", "-o", "name").split()
        return (found - own) | {w for w in wide if self.name in w or self.namespace in w}

    def table(self, kind):
        """Rows of `kubectl get KIND`, split into columns."""
        return [line.split() for line in self.cluster.kubectl("get", kind, "-n", self.namespace, "--no-headers").splitlines()]

    def patch_pool(self, spec):
        """`spec` has the fields of v1alpha2, whichever version the guide's pool is of."""
        name = f"gaie-{self.name}"
        stable = path(("apis/inference.networking.k8s.io/v1", "inferencepools"), self.namespace)
        if name not in [p["metadata"]["name"] for p in self.cluster.api.items(stable)]:
            where = path(("apis/inference.networking.x-k8s.io/v1alpha2", "inferencepools"), self.namespace, name)
            return self.cluster.api.merge(where, {"spec": spec})
        newer = {}
        if "selector" in spec:
            newer["selector"] = {"matchLabels": spec["selector"]}
        if "targetPortNumber" in spec:
            newer["targetPorts"] = [{"number": spec["targetPortNumber"]}]
        return self.cluster.api.merge(f"{stable}/{name}", {"spec": newer})
