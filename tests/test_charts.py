"""Every chart lints and renders to objects that the API server takes whole; the guide's objects have the guide's names; values that cannot work are
refused, with the reason; alerts fire when they should."""

import re
import subprocess

import pytest
import yaml

import charts
from charts import CHARTS, TOOLS, one, refusal, render
from harness import ROOT, run

LABELS = {"llm-d.ai/inferenceServing": "true"}
MODEL_SERVERS = {"modelServers": {"matchLabels": LABELS}}
V1, V1ALPHA2 = "inference.networking.k8s.io/v1", "inference.networking.x-k8s.io/v1alpha2"
DIALS = {"pluginsConfigFile": "dial.yaml", "pluginsCustomConfig": {"dial.yaml": (ROOT / "deploy/config/precise-prefix.yaml").read_text()}}
BINDS = {"pluginsConfigFile": "bind.yaml", "pluginsCustomConfig": {"bind.yaml": (ROOT / "deploy/config/guide-v0.5.yaml").read_text()}}
GUIDE_PICKER = ROOT / "deploy/guide/gaie-kv-events/values.yaml"
GUIDE_ENGINES = ROOT / "deploy/guide/ms-kv-events/values.yaml"
PORTS = {"extraContainerPorts": [{"name": "zmq", "containerPort": 5557, "protocol": "TCP"}],
         "extraServicePorts": [{"name": "zmq", "port": 5557, "targetPort": 5557, "protocol": "TCP"}]}


def picker(pool=None, provider=None, **extension):
    return {"inferenceExtension": extension, "inferencePool": {**MODEL_SERVERS, **(pool or {})}, "provider": {"name": "none", **(provider or {})}}


EVERYTHING = dict(
    **DIALS, **PORTS, replicas=3, env={"A": "1", "B": 2}, flags={"drain-timeout": "20s", "emit-endpoint-scores": True}, model="Qwen/Qwen3-0.6B",
    imagePullSecrets=[{"name": "pull"}], hfToken={"secretName": "llm-d-hf-token"}, service={"annotations": {"a": "b"}}, serviceAccount={"annotations": {"a": "b"}},
    podAnnotations={"a": "b"}, podLabels={"c": "d"}, nodeSelector={"disk": "fast"}, tolerations=[{"key": "k", "operator": "Exists"}], priorityClassName="high",
    affinity={"nodeAffinity": {}}, topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    tokenizer={"volume": {"persistentVolumeClaim": {"claimName": "tokenizer", "readOnly": True}}, "subPath": "qwen3"},
    volumes=[{"name": "more", "emptyDir": {}}], volumeMounts=[{"name": "more", "mountPath": "/more"}],
    monitoring={"auth": {"enabled": True}, "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}, "prometheusRule": {"enabled": True}},
    networkPolicy={"enabled": True, "extProcFrom": [{"podSelector": {}}], "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]})

# chart -> name of the case -> values
CASES = {
    "inferencepool": {
        "plain": picker(),
        "guide": picker(**BINDS, **PORTS, logVerbosity=4, env=[{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "llm-d-hf-token", "key": "HF_TOKEN"}}}]),
        "v1": picker({"apiVersion": V1, "failureMode": "FailOpen", "targetPorts": [{"number": 8000}, {"number": 8001}]}),
        "v1alpha2": picker({"apiVersion": V1ALPHA2, "failureMode": "FailOpen"}),
        "everything": picker(**EVERYTHING),
        "gke": picker(provider={"name": "gke"}, monitoring={"auth": {"enabled": True}}),
        "istio": picker(provider={"name": "istio"}),
        "elects": picker(replicas=2, leaderElection={"enabled": True}, flags=[{"name": "tracing", "value": False}]),
        "policy-in-bind-mode": picker(**BINDS, networkPolicy={"enabled": True}),
        "tokenizer-of-the-hub": picker(tokenizer={"name": "Qwen/Qwen3-0.6B", "cache": {"persistentVolumeClaim": {"claimName": "cache"}}}),
    },
    "llm-d-infra": {
        "plain": {},
        "istio": {"gateway": {"destinationRule": {"enabled": True, "host": "gaie-kv-events-epp.llm-d-precise.svc.cluster.local"}}},
        "kgateway": {"gateway": {"gatewayClassName": "kgateway", "service": {"annotations": {"a": "b"}}}},
        "gke": {"gateway": {"gatewayClassName": "gke-l7-regional-external-managed"}},
        "ingress": {"gateway": {"service": {"type": "ClusterIP"}},
                    "ingress": {"enabled": True, "ingressClassName": "nginx", "host": "llm.example", "annotations": {"a": "b"},
                                "tls": [{"hosts": ["llm.example"], "secretName": "tls"}]}},
        "connection-limits": {"gateway": {"logLevel": "error", "destinationRule": {"enabled": True, "host": "h", "trafficPolicy": {
            "tls": {"mode": "SIMPLE", "insecureSkipVerify": True},
            "connectionPool": {"http": {"http1MaxPendingRequests": 256000, "maxRequestsPerConnection": 256000, "http2MaxRequests": 256000, "idleTimeout": "900s"},
                               "tcp": {"maxConnections": 256000, "maxConnectionDuration": "1800s", "connectTimeout": "900s"}}}}}},
        "settings-where-the-original-has-them": {"gateway": {"gatewayParameters": {"logLevel": "warn", "resources": {"limits": {"cpu": "4"}}}}},
        "path-of-the-original": {"gateway": {"listeners": [{"name": "default", "path": "/", "port": 80, "protocol": "HTTP"}]}},
        "labelled": {"commonLabels": {"team": "a"}, "commonAnnotations": {"c": "d"}, "gateway": {"labels": {"e": "f"}, "annotations": {"g": "h"}}},
        "off": {"gateway": {"enabled": False}},
    },
    "llm-d-modelservice": {
        "plain": {},
        "simulated": {"engine": "sim"},
        "dial": {"kvEvents": {"mode": "dial", "replayPort": 5657}},
        "ranks": {"decode": {"parallelism": {"data": 2}}, "kvEvents": {"mode": "dial", "replayPort": 5657}},
        "prefill": {"prefill": {"create": True}},
        "volume": {"modelArtifacts": {"uri": "pvc://models/qwen3"}},
        "cache-volume": {"modelArtifacts": {"uri": "pvc+hf://models/hub/Qwen/Qwen3-0.6B"}},
        "v1-without-proxy": {"routing": {"proxy": {"enabled": False}, "inferencePool": {"apiVersion": V1}}},
        "monitored-and-tested": {"decode": {"monitoring": {"podmonitor": {"enabled": True}}}, "test": {"url": "http://gateway"}},
    },
    "warmpath": {
        "plain": {},
        "bind": {"kvEvents": {"mode": "bind"}, "endpoints": {"matchLabels": LABELS}, "networkPolicy": {"enabled": True}},
        "static": {"endpoints": {"static": ["http://10.0.0.5:8000,events=tcp://10.0.0.5:5557"]}},
        "replicas": {"replicas": 3, "networkPolicy": {"enabled": True}},
        "monitored": {"monitoring": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}},
    },
}
RENDERED = [(chart, case) for chart in CASES for case in CASES[chart]]


def case_id(case):
    return "-".join(case)


def test_every_chart_is_tested():
    assert charts.names() == sorted(CASES)


@pytest.mark.parametrize("chart", charts.names())
def test_a_chart_lints(chart):
    for case, values in CASES[chart].items():
        code, out, err = charts.helm("lint", CHARTS / chart, "--kube-version", "1.35.0", values=values)
        # The charts carry the guide's version numbers, with their v.
        findings = [line for line in (out + err).splitlines() if ("[WARNING]" in line or "[ERROR]" in line) and "is not a valid SemVerV2" not in line]
        assert code == 0 and not findings, (case, out, err)


@pytest.mark.parametrize("case", RENDERED, ids=case_id)
def test_rendered_objects_fit_their_schemas(case):
    chart, name = case
    objects = render(chart, CASES[chart][name])
    assert objects or name == "off"
    for given in objects:
        charts.validate(given)
    identities = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
    assert len(identities) == len(set(identities))


@pytest.mark.parametrize("case", RENDERED, ids=case_id)
def test_pods_of_ours_run_without_privileges(case):
    chart, name = case
    for owner, spec in charts.pods(render(chart, CASES[chart][name])):
        assert spec["enableServiceLinks"] is False, owner["metadata"]["name"]
        pod_level = spec.get("securityContext", {})
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            if not container["image"].startswith("ghcr.io/warmpath/"):
                continue
            where = (owner["metadata"]["name"], container["name"])
            context = {**pod_level, **container.get("securityContext", {})}
            assert context["runAsNonRoot"] is True and context["readOnlyRootFilesystem"] is True, where
            assert context["allowPrivilegeEscalation"] is False and context["capabilities"]["drop"] == ["ALL"], where
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where


def test_kinds_without_a_schema_are_rendered_and_have_none():
    seen = {f"{o['apiVersion']} {o['kind']}" for chart, case in RENDERED for o in render(chart, CASES[chart][case])}
    assert charts.WITHOUT_SCHEMA <= seen
    assert not [kind for kind in charts.definitions() if " ".join(kind) in charts.WITHOUT_SCHEMA]


def test_the_schema_check_finds_what_it_is_for():
    gateway = one(render("llm-d-infra"), "Gateway")
    gateway["spec"]["listeners"][0]["path"] = "/"
    with pytest.raises(AssertionError, match="path"):
        charts.validate(gateway)
    pool = one(render("inferencepool", picker()), "InferencePool")
    pool["spec"]["targetPortNumber"] = 70000
    with pytest.raises(AssertionError, match="70000"):
        charts.validate(pool)
    service = one(render("inferencepool", picker()), "Service")
    service["spec"]["port"] = 1
    with pytest.raises(AssertionError, match="port"):
        charts.validate(service)


# ---- the guide's names

def test_charts_have_the_names_and_versions_of_the_guide():
    listed = {}
    for chart in charts.names():
        meta = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
        listed[chart] = f"{meta['name']}-{meta['version']}", meta["appVersion"]
    assert listed["inferencepool"] == ("inferencepool-v0.5.1", "v0.5.1")
    assert listed["llm-d-infra"] == ("llm-d-infra-v1.3.0", "v0.3.0")
    assert listed["llm-d-modelservice"] == ("llm-d-modelservice-v0.2.7", "v0.2.0")


def test_the_guides_picker():
    objects = render("inferencepool", picker(), files=[GUIDE_PICKER])
    assert sorted((o["kind"], o["metadata"]["name"]) for o in objects if o["kind"] != "Pod") == [
        ("ConfigMap", "gaie-kv-events-epp"), ("Deployment", "gaie-kv-events-epp"), ("InferencePool", "gaie-kv-events"), ("Role", "gaie-kv-events-epp"),
        ("RoleBinding", "gaie-kv-events-epp"), ("Service", "gaie-kv-events-epp"), ("ServiceAccount", "gaie-kv-events-epp")]
    service = one(objects, "Service")["spec"]
    assert service["type"] == "ClusterIP" and service["selector"] == {"inferencepool": "gaie-kv-events-epp"}
    assert [(p["name"], p["port"], p["protocol"]) for p in service["ports"]] == [("grpc-ext-proc", 9002, "TCP"), ("http-metrics", 9090, "TCP"), ("zmq", 5557, "TCP")]
    assert set(one(objects, "ConfigMap")["data"]) == {"default-plugins.yaml", "plugins-v2.yaml", "prefix-cache-tracking-config.yaml"}
    pool = one(objects, "InferencePool")
    assert pool["apiVersion"] == V1ALPHA2
    assert pool["spec"] == {"selector": LABELS, "targetPortNumber": 8000, "extensionRef": {"name": "gaie-kv-events-epp"}}
    deployment = one(objects, "Deployment")["spec"]
    assert deployment["template"]["metadata"]["labels"] == {"inferencepool": "gaie-kv-events-epp"}
    assert deployment["strategy"]["type"] == "RollingUpdate"
    pod = deployment["template"]["spec"]
    assert (pod["serviceAccountName"], pod["terminationGracePeriodSeconds"]) == ("gaie-kv-events-epp", 130)
    container = pod["containers"][0]
    assert (container["name"], container["image"], container["command"]) == ("epp", "ghcr.io/warmpath/warmpath:0.1.0", ["warmpath", "epp"])
    assert container["args"] == [
        "-poolName", "gaie-kv-events", "-poolNamespace", "llm-d-precise", "--v", "4", "--grpcPort", "9002", "-grpcHealthPort", "9003", "-metricsPort", "9090",
        "-configFile", "config/prefix-cache-tracking-config.yaml", "--enablePprof=true", "--modelServerMetricsPath=/metrics",
        "--modelServerMetricsScheme=http", "--modelServerMetricsHttpsInsecureSkipVerify=true",
        "--pool-group=inference.networking.x-k8s.io", "--metrics-endpoint-auth=false"]
    assert [(p["name"], p["containerPort"]) for p in container["ports"]] == [("grpc", 9002), ("grpc-health", 9003), ("metrics", 9090), ("zmq", 5557)]
    assert container["readinessProbe"]["grpc"] == {"port": 9003, "service": "inference-extension"}
    assert container["livenessProbe"]["grpc"] == {"port": 9003, "service": "liveness"}
    env = {e["name"]: e for e in container["env"]}
    assert env["HF_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == "llm-d-hf-token"
    mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
    assert mounts["/config"] == "plugins-config-volume" and env["HF_HOME"]["value"] in mounts


def test_the_guides_gateway():
    objects = render("llm-d-infra", CASES["llm-d-infra"]["istio"], release="infra-kv-events")
    name = "infra-kv-events-inference-gateway"
    assert sorted((o["kind"], o["metadata"]["name"]) for o in objects) == [("ConfigMap", name), ("DestinationRule", name), ("Gateway", name)]
    gateway = one(objects, "Gateway")
    assert gateway["metadata"]["labels"]["istio.io/enable-inference-extproc"] == "true"
    assert gateway["spec"] == {
        "gatewayClassName": "istio", "infrastructure": {"parametersRef": {"group": "", "kind": "ConfigMap", "name": name}},
        "listeners": [{"name": "default", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}]}
    patches = {key: yaml.safe_load(text) for key, text in one(objects, "ConfigMap")["data"].items()}
    assert patches["service"] == {"spec": {"type": "LoadBalancer"}}
    proxy = patches["deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert proxy["name"] == "istio-proxy" and proxy["resources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    assert one(objects, "DestinationRule")["spec"]["trafficPolicy"] == {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True}}


def test_only_istio_gets_istios_objects():
    by_provider = {case: {o["kind"] for o in render("llm-d-infra", CASES["llm-d-infra"][case])} for case in ("kgateway", "gke")}
    assert by_provider == {"kgateway": {"Gateway", "GatewayParameters"}, "gke": {"Gateway"}}


@pytest.mark.parametrize("gateway, words", [("istio", ["warning", "default:warn"]), ("kgateway", ["warning"])])
def test_the_originals_gateway_parameters_are_the_proxys(gateway, words):
    given = CASES["llm-d-infra"]["settings-where-the-original-has-them"]["gateway"]
    text = str(render("llm-d-infra", {"gateway": {**given, "gatewayClassName": gateway}}))
    assert all(word in text for word in [*words, "{'cpu': '4'}" if gateway == "kgateway" else 'cpu: "4"'])


def test_installs_side_by_side_share_no_object():
    seen = {}
    for release in ("gaie-kv-events", "gaie-kv-events-2"):
        for namespace in ("a", "b"):
            for given in render("inferencepool", picker(**EVERYTHING), release=release, namespace=namespace):
                identity = (given["kind"], given["metadata"].get("namespace"), given["metadata"]["name"])
                assert identity not in seen, identity
                seen[identity] = given


def test_long_release_names_keep_within_the_limits():
    for given in render("inferencepool", picker(**EVERYTHING), release="g" * 53, namespace="n" * 63):
        charts.validate(given)
        if given["kind"] == "Service":
            assert given["metadata"]["name"] == "g" * 40 + "-epp"


# ---- the picker's switches

def rules(objects, kind="Role"):
    return {(group, resource, verb, tuple(rule.get("resourceNames", ()))) for o in objects if o["kind"] == kind for rule in o["rules"]
            for group in rule.get("apiGroups", [""]) for resource in rule.get("resources", rule.get("nonResourceURLs")) for verb in rule["verbs"]}


def test_the_account_may_do_what_it_needs_and_no_more():
    base = render("inferencepool", picker())
    assert {verb for _, _, verb, _ in rules(base)} == {"get", "list", "watch"}
    assert {(group, resource) for group, resource, _, _ in rules(base)} == {
        ("", "pods"), ("inference.networking.k8s.io", "inferencepools"), ("inference.networking.x-k8s.io", "inferencepools"),
        *((group, kind) for group in ("llm-d.ai", "inference.networking.x-k8s.io") for kind in ("inferenceobjectives", "inferencemodelrewrites"))}
    assert not rules(base, "ClusterRole")
    elects = rules(render("inferencepool", CASES["inferencepool"]["elects"])) - rules(base)
    lease = ("epp-llm-d-precise-gaie-kv-events.llm-d.ai",)
    assert elects == {("coordination.k8s.io", "leases", "create", ()), ("coordination.k8s.io", "leases", "get", lease), ("coordination.k8s.io", "leases", "update", lease)}
    secured = render("inferencepool", picker(monitoring={"auth": {"enabled": True}}))
    assert rules(secured) == rules(base)
    assert rules(secured, "ClusterRole") == {("authentication.k8s.io", "tokenreviews", "create", ()), ("authorization.k8s.io", "subjectaccessreviews", "create", ()),
                                             ("", "/metrics", "get", ())}


def container(values, chart="inferencepool"):
    return one(render(chart, values), "Deployment")["spec"]["template"]["spec"]["containers"][0]


def test_replicas_that_dial_roll_and_are_not_evicted_at_once():
    objects = render("inferencepool", picker(**DIALS, replicas=3))
    assert one(objects, "Deployment")["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert one(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert not [o for o in render("inferencepool", picker()) if o["kind"] == "PodDisruptionBudget"]


def test_a_plain_proxy_takes_connections_until_none_are_sent_to_it():
    assert container({}, "warmpath")["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert "lifecycle" not in container(CASES["warmpath"]["bind"], "warmpath") and "lifecycle" not in container({"preStopSeconds": 0}, "warmpath")


def test_an_elected_leader_is_probed_as_one_and_replaced_at_once():
    objects = render("inferencepool", CASES["inferencepool"]["elects"])
    assert one(objects, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    epp = container(CASES["inferencepool"]["elects"])
    assert epp["readinessProbe"]["grpc"]["service"] == "readiness" and "--ha-enable-leader-election" in epp["args"]
    # A standby is never Ready: a budget would keep the leader's node from being drained.
    assert not [o for o in objects if o["kind"] == "PodDisruptionBudget"]


def test_the_pools_version_decides_its_shape_and_the_pickers_group():
    objects = render("inferencepool", CASES["inferencepool"]["v1"])
    assert one(objects, "InferencePool")["spec"] == {
        "selector": {"matchLabels": LABELS}, "targetPorts": [{"number": 8000}, {"number": 8001}],
        "endpointPickerRef": {"name": "gaie-kv-events-epp", "port": {"number": 9002}, "failureMode": "FailOpen"}}
    assert "--pool-group=inference.networking.k8s.io" in container(CASES["inferencepool"]["v1"])["args"]


def test_gateways_that_expect_the_usual_port_are_told_another_one():
    pool = one(render("inferencepool", picker(extProcPort=9102)), "InferencePool")
    charts.validate(pool)
    assert pool["spec"]["extensionRef"] == {"name": "gaie-kv-events-epp", "portNumber": 9102}


def test_the_tokenizer_comes_from_the_hub_or_from_a_volume():
    hub = container(picker(tokenizer={"name": "Qwen/Qwen3-0.6B"}, hfToken={"secretName": "s"}))
    assert "--tokenizer=Qwen/Qwen3-0.6B" in hub["args"]
    assert {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "HF_TOKEN", "optional": True}}} in hub["env"]
    volume = container(picker(tokenizer={"volume": {"persistentVolumeClaim": {"claimName": "t"}}, "subPath": "qwen3"}))
    assert "--tokenizer=/tokenizer" in volume["args"]
    assert {"name": "tokenizer", "mountPath": "/tokenizer", "readOnly": True, "subPath": "qwen3"} in volume["volumeMounts"]
    # A token given by `env` is the one.
    both = container(picker(hfToken={"secretName": "s"}, env={"HF_TOKEN": "x", "HF_HOME": "/mine"}))
    assert [e for e in both["env"] if e["name"] in ("HF_TOKEN", "HF_HOME")] == [{"name": "HF_HOME", "value": "/mine"}, {"name": "HF_TOKEN", "value": "x"}]


def test_only_the_pools_pods_may_send_events():
    bound = one(render("inferencepool", CASES["inferencepool"]["policy-in-bind-mode"]), "NetworkPolicy")["spec"]
    assert bound["podSelector"] == {"matchLabels": {"inferencepool": "gaie-kv-events-epp"}}
    events = [r for r in bound["ingress"] if r["ports"][0]["port"] == 5557]
    assert [r["from"] for r in events] == [[{"podSelector": {"matchLabels": LABELS}}]]
    dialled = one(render("inferencepool", CASES["inferencepool"]["everything"]), "NetworkPolicy")["spec"]
    assert [r["ports"][0]["port"] for r in dialled["ingress"]] == [9002, 9003, 9090]


ZMQ = "plugins:\n- type: precise-prefix-cache-scorer\n  parameters: {kvEventsConfig: {zmqEndpoint: 'tcp://*:5557'}}\n"


@pytest.mark.parametrize("chart, values, words", [
    ("inferencepool", {}, "matchLabels"),
    ("inferencepool", picker(**BINDS, replicas=2), r"replicas is 2, but the engines connect to the picker's Service \(plugin prefix-cache-scorer: mode cache_tracking\)"),
    ("inferencepool", picker(**BINDS, replicas=2, leaderElection={"enabled": True}), "each engine would reach one replica only"),
    ("inferencepool", picker(replicas=2, flags={"kv-events-bind": "tcp://*:5557"}), "the flag kv-events-bind"),
    ("inferencepool", picker(replicas=2, pluginsConfigFile="c", pluginsCustomConfig={"c": ZMQ}), r"kvEventsConfig.zmqEndpoint tcp://\*:5557"),
    ("inferencepool", picker(pluginsConfigFile="absent.yaml"), '"absent.yaml" is neither default-plugins.yaml nor plugins-v2.yaml nor a key'),
    ("inferencepool", picker(pluginsConfigFile="c", pluginsCustomConfig={"c": "a: [1"}), "c is not YAML"),
    ("inferencepool", picker(flags={"pool-name": "x"}), "flags.pool-name: the chart sets this flag"),
    ("inferencepool", picker(flags={"--ha-enable-leader-election": "x"}), "flags.ha-enable-leader-election"),
    ("inferencepool", picker({"targetPorts": [{"number": 1}]}), "one port, targetPortNumber"),
    ("inferencepool", picker({"apiVersion": "inference.networking.k8s.io/v2"}), "apiVersion"),
    ("inferencepool", picker(tokenizer={"name": "a/b", "volume": {"emptyDir": {}}}), "name or volume, not both"),
    ("inferencepool", picker(replica=2), "replica"),
    ("inferencepool", picker(extProcPort=0), "extProcPort"),
    ("inferencepool", picker(provider={"name": "aws"}), "provider"),
    ("llm-d-infra", {"gateway": {"destinationRule": {"enabled": True}}}, "gateway.destinationRule.host names the endpoint picker's Service"),
    ("llm-d-infra", {"ingress": {"enabled": True}}, "needs gateway.service.type ClusterIP, not LoadBalancer"),
    ("llm-d-infra", {"gateway": {"gatewayClassName": "gke-l7-rilb", "service": {"type": "ClusterIP"}}, "ingress": {"enabled": True}}, "no Service in the cluster"),
    ("llm-d-infra", {"gateway": {"className": "istio"}}, "className"),
    ("warmpath", {"replicas": 2, "kvEvents": {"mode": "bind"}}, "replica"),
    ("warmpath", {"config": ZMQ}, r"config: kvEventsConfig.zmqEndpoint tcp://\*:5557 listens"),
    ("warmpath", {"config": "a: [1"}, "config: is not YAML"),
    ("llm-d-modelservice", {"modelArtifacts": {"uri": "oci://x"}}, "oci://x"),
    ("llm-d-modelservice", {"decode": {"parallelism": {"data": 2}}}, "decode.parallelism.data: 2 with kvEvents.mode: bind"),
    ("llm-d-modelservice", {"decode": {"parallelism": {"data": 2}}, "kvEvents": {"mode": "dial", "replayPort": 5558}}, "replayPort: 5558 is too near"),
], ids=lambda v: v if isinstance(v, str) and "-" in v and " " not in v else None)
def test_values_that_cannot_work_are_refused_with_the_reason(chart, values, words):
    assert re.search(words, refusal(chart, values)), refusal(chart, values)


@pytest.mark.parametrize("case", RENDERED, ids=case_id)
def test_notes_say_how_to_see_it_work(case):
    chart, name = case
    code, out, err = charts.helm("install", "gaie-kv-events", CHARTS / chart, "-n", "llm-d-precise", "--dry-run=client", values=CASES[chart][name])
    assert code == 0, err
    notes = out.partition("NOTES:")[2]
    assert ("kubectl" in notes or name == "off") and "<no value>" not in out and "\n\n\n" not in notes.strip(), notes


def test_the_charts_configurations_are_read_by_the_program(tmp_path):
    for name in ("default-plugins.yaml", "plugins-v2.yaml"):
        text = one(render("inferencepool", picker()), "ConfigMap")["data"][name]
        assert yaml.safe_load(text) == yaml.safe_load((ROOT / "deploy/config" / f"chart-v0.5.1-{name.replace('-plugins', '')}").read_text())
        (tmp_path / name).write_text(text)
        done = run("config", "check", tmp_path / name)
        assert done.returncode == 0, done.stderr


# ---- alerts

def promtool(*args, cwd):
    done = subprocess.run([TOOLS / "promtool", *args], capture_output=True, text=True, cwd=cwd, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts(chart, values):
    return one(render(chart, values), "PrometheusRule")["spec"]


def test_alerts_fire_when_they_should(tmp_path):
    spec = alerts("inferencepool", picker(monitoring={"prometheusRule": {"enabled": True}}))
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
    tests = (ROOT / "tests/alerts_test.yaml").read_text()
    (tmp_path / "alerts_test.yaml").write_text(tests)
    promtool("check", "rules", "rules.yaml", cwd=tmp_path)
    promtool("test", "rules", "alerts_test.yaml", cwd=tmp_path)
    for rule in (rule for group in spec["groups"] for rule in group["rules"]):
        assert f"summary: {rule['annotations']['summary']}" in tests, f"{rule['alert']} never fires in alerts_test.yaml"


@pytest.mark.parametrize("chart, values", [("inferencepool", picker(monitoring={"prometheusRule": {"enabled": True}})),
                                           ("warmpath", {"monitoring": {"prometheusRule": {"enabled": True}}})], ids=["inferencepool", "warmpath"])
def test_alerts_use_metrics_that_there_are(chart, values, tmp_path):
    spec = alerts(chart, values)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
    promtool("check", "rules", "rules.yaml", cwd=tmp_path)
    documented = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs/metrics.md").read_text()))
    for rule in (rule for group in spec["groups"] for rule in group["rules"]):
        for name in re.findall(r"\b(?:llm_d_epp|warmpath)_\w+", rule["expr"]):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in documented or name in documented, (rule["alert"], name)
