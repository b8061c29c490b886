"""A cluster that runs llm-d's endpoint picker today switches by its image: the arguments, the configuration, the probes and the permissions of the original
charts, generation by generation, start this router, which gets Ready. Our own chart's are one more line of the table."""

import contextlib
import dataclasses

import httpx
import pytest

import charts
from engines import ScriptedEngine
from fake_kube import LLMD_GROUP, NAMESPACE, OLD_GROUP, POOL_GROUP, FakeKube, objective, pod, pool, rewrite
from harness import DEADLINE, MODEL, ROOT, Router, wait_until
from test_charts import CASES, DIALS, GUIDE_PICKER, picker, V1
from test_epp import health, proto  # noqa: F401  (proto is a fixture)

POOL = "gaie-kv-events"
LABELS = {"llm-d.ai/inferenceServing": "true"}
CONFIG = ROOT / "deploy/config"
READ = ["get", "watch", "list"]


def rule(groups, resources, verbs=READ):
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


REVIEWS = [rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]), rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"])]
PODS = rule([""], ["pods"])
LEASES = [rule(["coordination.k8s.io"], ["leases"], ["get", "list", "watch", "create", "update", "patch", "delete"]), rule([""], ["events"], ["create", "patch"])]

# What the charts of each generation let the picker do.
RULES_V051 = [rule([OLD_GROUP], ["inferencemodels"]), PODS, rule([OLD_GROUP], ["inferencepools"]), *REVIEWS]
RULES_V1 = [rule([OLD_GROUP], ["inferenceobjectives", "inferencemodelrewrites"]), PODS, rule([POOL_GROUP], ["inferencepools"]), *REVIEWS]
RULES_TODAY = [PODS, rule([POOL_GROUP, OLD_GROUP], ["inferencepools"]), rule([LLMD_GROUP, OLD_GROUP], ["inferenceobjectives", "inferencemodelrewrites"])]


def args_v051(config, verbosity=4):
    return ["-poolName", POOL, "-poolNamespace", NAMESPACE, "--v", str(verbosity), "--grpcPort", "9002", "-grpcHealthPort", "9003", "-metricsPort", "9090",
            "-configFile", f"config/{config}", "--enablePprof=true", "--modelServerMetricsPath=/metrics", "--modelServerMetricsScheme=http",
            "--modelServerMetricsHttpsInsecureSkipVerify=true"]


def args_v1(config, *flags, group=POOL_GROUP):
    return ["--pool-name", POOL, "--pool-namespace", NAMESPACE, "--pool-group", group, "--zap-encoder", "json", "--config-file", f"/config/{config}", *flags]


def args_today(config, *flags):
    return ["--pool-name", POOL, "--pool-namespace", NAMESPACE, "--pool-group", POOL_GROUP, "--zap-encoder", "json", "--config-file", f"/config/{config}", *flags]


@dataclasses.dataclass
class Generation:
    args: list
    config: str                 # file of deploy/config
    group: str = POOL_GROUP     # of its pool
    rules: list = None
    absent: tuple = ()          # resources this generation's cluster does not have
    liveness: str = "inference-extension"
    readiness: str = "inference-extension"
    restricted: bool = False    # readers of the metrics show a token


BEFORE_V1 = (f"inferencepools.{POOL_GROUP}", "inferenceobjectives", "inferencemodelrewrites")
BEFORE_LLMD = (f"inferenceobjectives.{LLMD_GROUP}", f"inferencemodelrewrites.{LLMD_GROUP}", "inferencemodels")


def ours(values, files=()):
    """A line of the table out of our own chart, rendered."""
    objects = charts.render("inferencepool", values, files=files)
    container = charts.one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    chosen = container["args"][container["args"].index("-configFile") + 1].removeprefix("config/")
    return Generation(
        args=container["args"], config=charts.one(objects, "ConfigMap")["data"][chosen],
        group=charts.one(objects, "InferencePool")["apiVersion"].split("/")[0],
        rules=[r for o in objects if o["kind"] in ("Role", "ClusterRole") for r in o["rules"]],
        liveness=container["livenessProbe"]["grpc"]["service"], readiness=container["readinessProbe"]["grpc"]["service"],
        restricted="--metrics-endpoint-auth=true" in container["args"])


GENERATIONS = {
    # The chart's own values: its decision tree, its three scorers, and the guide's file.
    "v0.5.1": lambda: Generation(args_v051("default-plugins.yaml", 3), "chart-v0.5.1-default.yaml", OLD_GROUP, RULES_V051, BEFORE_V1, restricted=True),
    "v0.5.1-plugins-v2": lambda: Generation(args_v051("plugins-v2.yaml"), "chart-v0.5.1-plugins-v2.yaml", OLD_GROUP, RULES_V051, BEFORE_V1, restricted=True),
    "v0.5.1-guide": lambda: Generation(args_v051("prefix-cache-tracking-config.yaml"), "guide-v0.5.yaml", OLD_GROUP, RULES_V051, BEFORE_V1, restricted=True),
    "v1.0-pool-of-the-old-group": lambda: Generation(
        args_v1("plugins-v2.yaml", "--v", "4", group=OLD_GROUP), "guide-v0.5.yaml", OLD_GROUP,
        [*RULES_V1, rule([OLD_GROUP], ["inferencepools"])], BEFORE_LLMD, restricted=True),
    "v1.2": lambda: Generation(
        args_v1("precise.yaml", "--v", "5", "--kv-cache-usage-percentage-metric", "vllm:gpu_cache_usage_perc", "--metrics-endpoint-auth=false"),
        "guide-v1.2.yaml", POOL_GROUP, RULES_V1, BEFORE_LLMD),
    "v1.3": lambda: Generation(
        args_v1("precise.yaml", "--v=1", "--tracing=false", "--grpc-port", "9002", "--grpc-health-port", "9003", "--metrics-port=9090"),
        "guide-v1.2.yaml", POOL_GROUP, RULES_V1, BEFORE_LLMD, restricted=True),
    "today": lambda: Generation(
        args_today("precise.yaml", "--grpc-health-port", "9003", "--v=2", "--tracing=false", "--metrics-endpoint-auth=false"),
        "guide-router.yaml", POOL_GROUP, RULES_TODAY, BEFORE_LLMD[2:]),
    "today-scorers": lambda: Generation(
        args_today("precise.yaml", "--grpc-health-port", "9003", "--tracing=false"), "guide-router-scorers.yaml", POOL_GROUP, RULES_TODAY + REVIEWS,
        BEFORE_LLMD[2:], restricted=True),
    "today-two-replicas": lambda: Generation(
        args_today("precise.yaml", "--ha-enable-leader-election", "--grpc-health-port", "9003", "--tracing=false", "--metrics-endpoint-auth=false"),
        "guide-router.yaml", POOL_GROUP, RULES_TODAY + LEASES, BEFORE_LLMD[2:], "liveness", "readiness"),
    "today-active-active": lambda: Generation(
        args_today("precise.yaml", "--ha-enable-leader-election", "--grpc-health-port", "9003", "--ha-enable-leader-election=false", "--metrics-endpoint-auth=false"),
        "guide-router.yaml", POOL_GROUP, RULES_TODAY, BEFORE_LLMD[2:], "liveness", "readiness"),
    "ours-guide": lambda: ours(picker(), files=[GUIDE_PICKER]),
    "ours-v1": lambda: ours(picker({"apiVersion": V1}, **DIALS)),
    "ours-elects": lambda: ours(CASES["inferencepool"]["elects"]),
    "ours-metrics-auth": lambda: ours(picker(monitoring={"auth": {"enabled": True}})),
}

PORTS = {"grpc-port": ("grpcPort", "9002"), "grpc-health-port": ("grpcHealthPort", "9003"), "metrics-port": ("metricsPort", "9090")}


def here(args, config):
    """The arguments as they are, but for ports, which the system picks, and the mounted file's place."""
    out, names = [], {arg.lstrip("-").partition("=")[0] for arg in args}
    for arg in args:
        name, equals, value = arg.rpartition("=")
        if value in [port for _, port in PORTS.values()]:
            arg = f"{name}{equals}0"
        out.append(str(config) if arg.startswith(("config/", "/config/")) else arg)
    return out + [f"--{flag}=0" for flag, (older, _) in PORTS.items() if not names & {flag, older}]


@contextlib.contextmanager
def running(tmp_path, generation, **server):
    config = tmp_path / "config.yaml"
    text = generation.config
    config.write_text(text if "\n" in text else (CONFIG / text).read_text())
    engine = ScriptedEngine(MODEL, {})
    port = int(engine.url.rpartition(":")[2])
    with FakeKube(**server) as kube:
        kube.rules, kube.absent = generation.rules, set(generation.absent)
        kube.readers = {"scraper": ("system:serviceaccount:monitoring:prometheus", True), "stranger": ("system:serviceaccount:a:b", False)}
        kube.apply(pool(POOL, LABELS, [port], group=generation.group), pod("decode-0", "127.0.0.1", LABELS))
        args = ["epp", *here(generation.args, config), "--kubeconfig", kube.kubeconfig(tmp_path), "--grpc-host", "127.0.0.1", "--metrics-host", "127.0.0.1",
                "--kv-events-bind", "tcp://127.0.0.1:0", "--drain-timeout", "0"]
        router = Router(tmp_path, "picker", args, {"NAMESPACE": NAMESPACE, "POD_NAME": "gaie-kv-events-epp-5d4-x7", "HF_HUB_OFFLINE": "1"})
        try:
            yield kube, router
        finally:
            try:
                assert router.stop() == 0
            finally:
                engine.close()


@pytest.mark.parametrize("name", GENERATIONS)
def test_a_generations_arguments_configuration_probes_and_permissions_do(tmp_path, proto, name):  # noqa: F811
    generation = GENERATIONS[name]()
    with running(tmp_path, generation) as (kube, router):
        for service in (generation.liveness, generation.readiness):
            wait_until(lambda s=service: health(proto, router, s) == "SERVING", lambda s=service: f"probe {s}; {router.log()[-2000:]}")
        router.wait_ready()
        token = {"Authorization": "Bearer scraper"} if generation.restricted else {}

        def endpoints():
            answer = httpx.get(router.api + "/api/v1/endpoints", headers=token, timeout=DEADLINE)
            return [e["name"] for e in answer.json()["endpoints"]] if answer.status_code == 200 else answer.status_code

        wait_until(lambda: endpoints() == ["decode-0"], lambda: f"the pool's pod is an endpoint: {endpoints()}")
        codes = {given: httpx.get(router.api + "/metrics", headers=headers, timeout=DEADLINE).status_code for given, headers in
                 (("none", {}), ("scraper", {"Authorization": "Bearer scraper"}), ("stranger", {"Authorization": "Bearer stranger"}))}
        assert codes == ({"none": 401, "scraper": 200, "stranger": 403} if generation.restricted else {"none": 200, "scraper": 200, "stranger": 200})
        lease = kube.get("leases", f"epp-{NAMESPACE}-{POOL}.llm-d.ai")
        elects = "readiness" == generation.readiness and "--ha-enable-leader-election=false" not in generation.args
        assert (lease is not None) == elects
        if lease:
            assert lease["spec"]["holderIdentity"].startswith("gaie-kv-events-epp-5d4-x7_")


def test_what_a_cluster_lacks_is_left_out_and_nothing_else(tmp_path, proto):  # noqa: F811
    """No permission for objectives, no such kind as rewrites: pods come and go as before."""
    generation = dataclasses.replace(GENERATIONS["today"](), rules=[PODS, rule([POOL_GROUP], ["inferencepools"])], absent=("inferencemodelrewrites",))
    with running(tmp_path, generation) as (kube, router):
        router.wait_ready()
        wait_until(lambda: [e["name"] for e in router.endpoints()] == ["decode-0"], "the pod")
        kube.apply(objective("sheddable", POOL, -1), rewrite("r", POOL, [{"targets": [{"modelRewrite": MODEL}]}]))
        kube.apply(pod("decode-1", "127.0.0.1", LABELS, ready=False))
        kube.delete("pods", "decode-0")
        wait_until(lambda: router.endpoints() == [], "no endpoint")
        assert health(proto, router, "inference-extension") == "SERVING"
        assert health(proto, router, "liveness") == "SERVING"


def test_a_deleted_pool_is_not_ready_but_alive(tmp_path, proto):  # noqa: F811
    with running(tmp_path, ours(picker())) as (kube, router):
        router.wait_ready()
        kube.delete("inferencepools", POOL)
        wait_until(lambda: health(proto, router, "inference-extension") == "NOT_SERVING", "not ready")
        assert health(proto, router, "liveness") == "SERVING"
        kube.apply(pool(POOL, LABELS, [8000], group=OLD_GROUP))
        wait_until(lambda: health(proto, router, "inference-extension") == "SERVING", "ready again")


def test_the_last_known_pool_serves_through_an_outage(tmp_path, proto):  # noqa: F811
    with running(tmp_path, GENERATIONS["v0.5.1-guide"](), tls=True) as (kube, router):
        def endpoints():
            return [e["name"] for e in httpx.get(router.api + "/api/v1/endpoints", headers={"Authorization": "Bearer scraper"}, timeout=DEADLINE).json()["endpoints"]]

        router.wait_ready()
        wait_until(lambda: endpoints() == ["decode-0"], "the pod")  # the API's verdict on this token is kept for a while
        with kube.outage():
            kube.apply(pod("decode-1", "127.0.0.1", LABELS))
            kube.delete("pods", "decode-0")
            kube.compact()
            wait_until(lambda: kube.watches() == 0, "the watches are cut")
            assert health(proto, router, "inference-extension") == "SERVING"
            assert endpoints() == ["decode-0"]
        wait_until(lambda: endpoints() == ["decode-1"], "what changed meanwhile")
