"""A router whose endpoints come from the Kubernetes API: pods come, go, restart and change; the API goes away; kinds are missing; replicas elect a leader."""

import ssl
import time

import httpx
import pytest

from fake_kube import LLMD_GROUP, NAMESPACE, OLD_GROUP, FakeKube, objective, pod, pool, rewrite
from harness import DEADLINE, MODEL, PARAGRAPH, ROOT, free_port, wait_until
from test_envoy import certificate
from test_epp import health, proto  # noqa: F401  (proto is a fixture)

POOL = "gaie-kv-events"
LABELS = {"llm-d.ai/inferenceServing": "true"}
PROMPT = PARAGRAPH * 4
GONE_WITHIN = 1.0  # seconds from a pod's deletion to the last pick of it


class Engines:
    """Simulators that share their ports, as pods do, each at an address of its own."""

    def __init__(self, start, directory):
        self.start, self.port, self.events_port = start, free_port(), free_port()
        config = (ROOT / "deploy/config/precise-prefix.yaml").read_text().replace("socketPort: 5557", f"socketPort: {self.events_port}")
        self.config = directory / "config.yaml"
        self.config.write_text(config)

    def run(self, ip):
        events = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": f"tcp://[::ffff:{ip}]:{self.events_port}"}
        return self.start.sim(host=ip, port=self.port, events=events)

    def router(self, kube, directory, *flags, **kwargs):
        args = ["--kubeconfig", kube.kubeconfig(directory), "--pool-name", POOL, "--pool-namespace", NAMESPACE, "--config-file", self.config, *flags]
        return self.start.serve(*args, **kwargs)


@pytest.fixture
def engines(start, tmp_path):
    return Engines(start, tmp_path)


@pytest.fixture
def kube():
    with FakeKube() as server:
        yield server


def names(router):
    return sorted(e["name"] for e in router.endpoints())


def blocks(router, name):
    return next(e["blocks"] for e in router.endpoints() if e["name"] == name)


def served_by(router, prompt=PROMPT):
    answer = router.complete(prompt, max_tokens=4)
    assert answer.status_code == 200, answer.text
    record = router.get(f"/api/v1/requests/{answer.headers['x-request-id']}").json()
    return record["chosen"], answer


def test_pods_come_restart_and_go(engines, kube, tmp_path):
    for ip in ("127.0.0.2", "127.0.0.3"):
        engines.run(ip)
    kube.apply(pool(POOL, LABELS, [engines.port]), pod("a", "127.0.0.2", LABELS), pod("b", "127.0.0.3", LABELS), pod("other", "127.0.0.4", {"app": "other"}),
               pod("pending", "", LABELS, ready=False))
    router = engines.router(kube, tmp_path).wait_ready().wait_events(2)
    assert names(router) == ["a", "b"]

    warm, _ = served_by(router)
    wait_until(lambda: blocks(router, warm) > 0, "the blocks of the first prompt are known")
    assert served_by(router)[0] == warm

    # A container that restarts in its pod has lost its cache.
    kube.edit("pods", warm, lambda p: p["status"]["containerStatuses"][0].update(restartCount=1))
    wait_until(lambda: blocks(router, warm) == 0, "nothing is known of the restarted engine")
    assert names(router) == ["a", "b"]

    # A pod that is being deleted gets nothing more, although its engine still answers.
    kube.delete("pods", warm)
    deleted = time.monotonic()
    other = {"a": "b", "b": "a"}[warm]
    while served_by(router, f"{time.monotonic()} x")[0] == warm:
        assert time.monotonic() - deleted < GONE_WITHIN
    assert names(router) == [other]
    assert all(served_by(router, f"{i} x")[0] == other for i in range(20))

    # Its successor has its address and none of its blocks.
    kube.apply(pod("c", {"a": "127.0.0.2", "b": "127.0.0.3"}[warm], LABELS))
    wait_until(lambda: names(router) == sorted([other, "c"]), "the new pod is an endpoint")
    assert blocks(router, "c") == 0

    # Unready, relabelled: out; and back.
    kube.edit("pods", "c", lambda p: p["status"]["conditions"][0].update(status="False"))
    wait_until(lambda: names(router) == [other], "an unready pod is out")
    kube.edit("pods", "c", lambda p: p["status"]["conditions"][0].update(status="True"))
    wait_until(lambda: names(router) == sorted([other, "c"]), "and back")
    kube.edit("pods", "c", lambda p: p["metadata"]["labels"].clear())
    wait_until(lambda: names(router) == [other], "a pod without the labels is out")


def test_the_last_known_endpoints_serve_through_an_outage(engines, kube, tmp_path):
    engines.run("127.0.0.2")
    engines.run("127.0.0.3")
    kube.apply(pool(POOL, LABELS, [engines.port]), pod("a", "127.0.0.2", LABELS))
    router = engines.router(kube, tmp_path).wait_ready()
    kube.stop()
    for i in range(20):
        assert served_by(router, f"{i}")[0] == "a"
    assert router.ready()
    wait_until(lambda: (router.metric("warmpath_kubernetes_seconds_since_contact", kind="pods") or 0) > 0, "the age of what is known can be watched")
    kube.apply(pod("b", "127.0.0.3", LABELS))
    kube.start()
    wait_until(lambda: names(router) == ["a", "b"], "what changed meanwhile is seen", deadline=60)
    kube.compact()
    kube.drop_watches()
    kube.delete("pods", "a")
    wait_until(lambda: names(router) == ["b"], "also after the history is gone")


@pytest.mark.parametrize("loss", ["absent", "forbidden"])
def test_a_kind_that_cannot_be_had_takes_only_itself_away(engines, kube, tmp_path, loss):
    if loss == "absent":
        kube.absent = {"inferenceobjectives", "inferencemodelrewrites"}
    else:
        kube.rules = [{"apiGroups": ["", "inference.networking.k8s.io"], "resources": ["pods", "inferencepools"], "verbs": ["get", "list", "watch"]}]
    engines.run("127.0.0.2")
    kube.apply(pool(POOL, LABELS, [engines.port]), pod("a", "127.0.0.2", LABELS))
    router = engines.router(kube, tmp_path).wait_ready()
    assert served_by(router)[0] == "a"
    wait_until(lambda: any("inferencemodelrewrites" in line for line in router.log().splitlines()), "the log names the kind")


def test_objectives_and_rewrites_of_the_pool_apply(engines, kube, tmp_path):
    engines.run("127.0.0.2")
    to_model = [{"matches": [{"model": {"value": "alias"}}], "targets": [{"modelRewrite": MODEL}]}]
    kube.apply(pool(POOL, LABELS, [engines.port]), pod("a", "127.0.0.2", LABELS), objective("batch", POOL, -3),
               rewrite("alias", POOL, to_model), rewrite("strangers", "another-pool", [{"targets": [{"modelRewrite": "nobody"}]}]))
    router = engines.router(kube, tmp_path).wait_ready()

    def ask(model):
        return httpx.post(router.url + "/v1/completions", json={"model": model, "prompt": "x", "max_tokens": 1},
                          headers={"x-llm-d-inference-objective": "batch"}, timeout=DEADLINE)

    wait_until(lambda: ask("alias").status_code == 200, "the rewrite applies")
    record = router.get(f"/api/v1/requests/{ask('alias').headers['x-request-id']}").json()
    assert (record["model"], record["target_model"], record["priority"]) == ("alias", MODEL, -3)
    kube.delete("inferencemodelrewrites", "alias", group=LLMD_GROUP)
    wait_until(lambda: ask("alias").status_code == 404, "and goes with its object")


@pytest.mark.parametrize("group", [None, OLD_GROUP])
def test_health_follows_the_pool(start, engines, kube, tmp_path, proto, group):  # noqa: F811
    engines.run("127.0.0.2")
    kube.apply(pod("a", "127.0.0.2", LABELS))
    the_pool = pool(POOL, LABELS, [engines.port], **({"group": group} if group else {}))
    picker = start.epp("--kubeconfig", kube.kubeconfig(tmp_path), "--pool-name", POOL, "--pool-namespace", NAMESPACE, "--metrics-endpoint-auth=false",
                       "--config-file", engines.config)
    service = "inference-extension"
    assert health(proto, picker, service) == "NOT_SERVING"
    assert health(proto, picker, "liveness") == "SERVING"
    assert "does not exist" in picker.get("/readyz").text
    kube.apply(the_pool)
    wait_until(lambda: health(proto, picker, service) == "SERVING", "the pool is there")
    picker.wait_ready()
    kube.delete("inferencepools", POOL, group=group or "inference.networking.k8s.io")
    wait_until(lambda: health(proto, picker, service) == "NOT_SERVING", "the pool is gone")
    assert names(picker) == []
    kube.apply(the_pool)
    wait_until(lambda: names(picker) == ["a"] and health(proto, picker, service) == "SERVING", "the pool is back")


def test_pods_by_selector_and_several_ports(start, kube, tmp_path):
    sim = start.sim(host="127.0.0.5", count=2, events=None, tokenizer=False)
    ports = [int(e["url"].rsplit(":", 1)[1]) for e in sim.engines()]
    kube.absent = {"inferencepools", "inferenceobjectives", "inferencemodelrewrites"}
    kube.apply(pod("a", "127.0.0.5", {"app": "vllm", "tier": "x"}), pod("b", "127.0.0.6", {"app": "vllm", "tier": "canary"}))
    router = start.serve("--kubeconfig", kube.kubeconfig(tmp_path), "--pool-namespace", NAMESPACE, "--endpoint-selector", "app=vllm,tier notin (canary)",
                         "--endpoint-target-ports", ",".join(map(str, ports)), tokenizer=False)
    wait_until(lambda: names(router) == ["a-rank-0", "a-rank-1"], "one endpoint a port")
    kube.edit("pods", "a", lambda p: p["metadata"]["annotations"].update({"llm-d.ai/active-ports": str(ports[1])}))
    wait_until(lambda: names(router) == ["a-rank-1"], "the annotation restricts the ports")


def test_who_may_read_the_metrics_port(start, engines, kube, tmp_path):
    kube.readers = {"prometheus": ("system:serviceaccount:monitoring:prometheus", True), "curious": ("system:serviceaccount:default:x", False)}
    kube.apply(pool(POOL, LABELS, [engines.port]))
    picker = start.epp("--kubeconfig", kube.kubeconfig(tmp_path), "--pool-name", POOL, "--pool-namespace", NAMESPACE, tokenizer=False)

    def status(path, token=None):
        return httpx.get(picker.api + path, headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=DEADLINE).status_code

    assert status("/healthz") == 200
    assert [status("/metrics"), status("/metrics", "unknown"), status("/metrics", "curious"), status("/metrics", "prometheus")] == [401, 401, 403, 200]
    assert status("/api/v1/endpoints") == 401
    assert "prometheus" not in picker.log()


def test_the_metrics_port_speaks_tls_alone_when_told_to(start, tmp_path):
    certificate(tmp_path, "localhost")
    router = start.serve("--metrics-cert-dir", tmp_path, engines=["http://127.0.0.1:1,events=none"], tokenizer=False)
    port = router.api.rsplit(":", 1)[1]
    assert router.api.startswith("https://")
    trusted = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    assert httpx.get(f"https://localhost:{port}/healthz", verify=trusted, timeout=DEADLINE).status_code == 200
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://localhost:{port}/healthz", timeout=DEADLINE)


def test_one_replica_leads_and_the_other_takes_over(start, engines, kube, tmp_path, proto):  # noqa: F811
    kube.apply(pool(POOL, LABELS, [engines.port]))
    flags = ["--kubeconfig", kube.kubeconfig(tmp_path), "--pool-name", POOL, "--pool-namespace", NAMESPACE, "--ha-enable-leader-election",
             "--metrics-endpoint-auth=false"]
    pickers = [start.epp(*flags, tokenizer=False) for _ in range(2)]

    def leaders():
        return [p for p in pickers if health(proto, p, "readiness") == "SERVING"]

    wait_until(lambda: len(leaders()) == 1, "one leads")
    assert [health(proto, p, "liveness") for p in pickers] == ["SERVING"] * 2
    assert kube.get("leases", f"epp-{NAMESPACE}-{POOL}.llm-d.ai") is not None
    leader = leaders()[0]
    assert leader.stop() == 0  # SIGTERM: the lease is given back
    pickers.remove(leader)
    wait_until(lambda: leaders() == pickers, "the other leads at once", deadline=5)
