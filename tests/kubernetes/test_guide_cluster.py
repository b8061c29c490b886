"""The guide on a cluster, as its reader walks it: install, verify, ask twice, look at scores and beat, change things, clean up."""

import json
import pathlib
import re

import httpx
import pytest

from api import path
from cluster import Background
from control_plane import BIN
from guide import NAMESPACE, Guide
from harness import GUIDE_PROMPT, MODEL, wait_until

HASH = "[0-9a-f]+-[0-9a-z]{5}"


@pytest.fixture(scope="module")
def guide(cluster):
    """The guide's install with simulated engines; the tests of this file walk on it in order."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("create", "secret", "generic", "llm-d-hf-token", "--from-literal=HF_TOKEN=hf_test", "-n", NAMESPACE)
    made = Guide(cluster)
    made.apply()
    return made.wait_installed()


def test_helm_list_shows_three_releases(cluster, guide):
    releases = {r["name"]: r for r in json.loads(cluster.helm("list", "-n", NAMESPACE, "-o", "json"))}
    assert {name: r["chart"] for name, r in releases.items()} == {
        "gaie-kv-events": "inferencepool-v0.5.1", "infra-kv-events": "llm-d-infra-v1.3.0", "ms-kv-events": "llm-d-modelservice-v0.2.7"}
    assert {(r["revision"], r["status"], r["namespace"]) for r in releases.values()} == {("1", "deployed", NAMESPACE)}


def test_get_all_shows_the_guides_tables(guide):
    pods = guide.table("pods")
    wanted = [(f"gaie-kv-events-epp-{HASH}", "1/1"), (f"infra-kv-events-inference-gateway-istio-{HASH}", "1/1"),
              (f"ms-kv-events-llm-d-modelservice-decode-{HASH}", "2/2"), (f"ms-kv-events-llm-d-modelservice-decode-{HASH}", "2/2")]
    assert len(pods) == len(wanted)
    for row, (name, ready) in zip(sorted(pods), wanted):
        assert re.fullmatch(name, row[0]) and row[1:4] == [ready, "Running", "0"], row

    services = {row[0]: row[1:] for row in guide.table("services")}
    assert set(services) == {"gaie-kv-events-epp", "gaie-kv-events-ip-805c964d", "infra-kv-events-inference-gateway-istio"}
    assert services["gaie-kv-events-epp"][0] == "ClusterIP" and services["gaie-kv-events-epp"][3] == "9002/TCP,9090/TCP,5557/TCP"
    assert services["gaie-kv-events-ip-805c964d"][:4] == ["ClusterIP", "None", "<none>", "54321/TCP"]
    gateway = services["infra-kv-events-inference-gateway-istio"]
    assert gateway[0] == "LoadBalancer" and gateway[2] not in ("<none>", "<pending>")
    assert re.fullmatch(r"15021:\d+/TCP,80:\d+/TCP", gateway[3])

    counts = {"gaie-kv-events-epp": "1", "infra-kv-events-inference-gateway-istio": "1", "ms-kv-events-llm-d-modelservice-decode": "2"}
    assert {row[0]: row[1:4] for row in guide.table("deployments")} == {name: [f"{n}/{n}", n, n] for name, n in counts.items()}
    sets = {re.sub("-[0-9a-f]+$", "", row[0]): row[1:4] for row in guide.table("replicasets")}
    assert sets == {name: [n, n, n] for name, n in counts.items()}


def test_the_picker_runs_as_the_chart_says(cluster, guide):
    pod = guide.picker()
    assert pod["spec"]["serviceAccountName"] == "gaie-kv-events-epp"
    container = cluster.node.worker(NAMESPACE, pod["metadata"]["name"]).containers["epp"]
    status = dict(line.split(":\t", 1) for line in container.execute(["cat", f"/proc/{container.process.pid}/status"]).stdout.splitlines())
    assert (status["NoNewPrivs"], status["CapBnd"], status["CapEff"]) == ("1", "0" * 16, "0" * 16)
    if pathlib.Path("/proc/self/uid_map").read_text().split()[2] != "1":  # in a user namespace there is only root
        assert status["Uid"].split() == ["65532"] * 4
    assert container.execute(["sh", "-c", "touch /x || echo refused"]).stdout == "refused\n"


def test_the_two_requests_give_the_guides_lines(cluster, guide):
    answer, scores = guide.ask()
    assert scores is None
    assert answer["object"] == "text_completion" and answer["model"] == MODEL
    assert answer["choices"][0]["finish_reason"] == "length"
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"], answer["usage"]["total_tokens"]) == (192, 50, 242)
    wait_until(lambda: sum(e["blocks"] for e in guide.endpoints()) == 3, lambda: f"three blocks: {guide.endpoints()}")

    answer, scores = guide.ask()
    assert list(scores.values()) == [2] and set(scores) <= guide.engine_ips()
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 128

    # The guide's own command, by the label it names.
    lines = [x for x in cluster.kubectl("logs", "-l", "inferencepool=gaie-kv-events-epp", "-n", NAMESPACE, "--tail", "100").splitlines()
             if "Got pod scores" in x]
    assert len(lines) == 2
    for line, said in zip(lines, (None, scores)):
        time, level, logger, caller, message, fields = line.split("\t")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time) and level == "LEVEL(-4)"
        assert (logger, message) == ("prefix-cache-scorer/prefix-cache-scorer", "Got pod scores")
        fields = json.loads(fields)
        assert list(fields) == ["x-request-id", "model", "resolvedTargetModel", "criticality", "scores"]
        assert {k: fields[k] for k in list(fields)[1:]} == {"model": MODEL, "resolvedTargetModel": MODEL, "criticality": "Sheddable", "scores": said}


def test_the_metrics_beat_counts_them(guide):
    beat = wait_until(lambda: next((b for b in guide.beats() if "lookups=2" in b), None), lambda: f"a beat with both lookups: {guide.beats()}", 90)
    assert re.fullmatch(r"admissions=3 evictions=0 lookups=2 hits=2 latency_count=2 latency_sum=\S+ latency_avg=\S+", beat)


def test_streaming_and_models_through_the_gateway(guide):
    assert [m["id"] for m in httpx.get(guide.url() + "/v1/models").json()["data"]] == [MODEL]
    with httpx.stream("POST", guide.url() + "/v1/completions", json={"model": MODEL, "prompt": "one two", "max_tokens": 5, "stream": True},
                      timeout=20) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.status_code == 200 and lines[-1] == "data: [DONE]"


def test_a_model_rewrite_is_obeyed_and_forgotten(cluster, guide):
    where = path(("apis/llm-d.ai/v1alpha2", "inferencemodelrewrites"), NAMESPACE)
    cluster.api.create(where, {
        "apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite", "metadata": {"name": "alias"},
        "spec": {"poolRef": {"name": "gaie-kv-events"}, "rules": [{"matches": [{"model": {"value": "alias"}}], "targets": [{"modelRewrite": MODEL, "weight": 1}]}]}},
        ok=())
    wait_until(lambda: guide.send("short", model="alias").status_code == 200, lambda: f"the alias is known: {guide.log()}")
    fields = json.loads(guide.score_lines()[-1].split("\t")[-1])
    assert (fields["model"], fields["resolvedTargetModel"]) == ("alias", MODEL)
    cluster.api.delete(f"{where}/alias")
    wait_until(lambda: guide.send("short", model="alias").status_code != 200, "the alias is gone")


def test_the_hub_saw_the_secrets_token(cluster, guide):
    assert cluster.hub.asked and {authorization for _, authorization in cluster.hub.asked} == {"Bearer hf_test"}


def test_helm_test_passes(cluster, guide):
    for release in ("gaie-kv-events", "ms-kv-events"):
        said = cluster.run(BIN / "helm", "test", release, "-n", NAMESPACE, "--timeout", "60s", check=False)
        assert said.returncode == 0, said.stdout + said.stderr + cluster.explain(NAMESPACE)
    cluster.check()


def test_scaling_up_and_down_moves_the_pool(cluster, guide):
    holder = next(iter(guide.ask_until_cached(GUIDE_PROMPT, 2)))
    with Background(lambda: guide.send("short", max_tokens=2).status_code) as load:
        cluster.kubectl("scale", guide.decode, "--replicas=4", "-n", NAMESPACE)
        guide.wait_endpoints(4)
        cluster.kubectl("scale", guide.decode, "--replicas=1", "-n", NAMESPACE)
        cluster.wait_pods(NAMESPACE, guide.decode_label, 1)
        guide.wait_endpoints(1)
    assert set(load.results) == {200}, load.results
    left = guide.engine_ips()
    scores = guide.ask()[1]
    assert (scores or {}).keys() <= left and (holder in left or not scores)
    cluster.kubectl("scale", guide.decode, "--replicas=2", "-n", NAMESPACE)
    cluster.wait_pods(NAMESPACE, guide.decode_label, 2)
    guide.wait_endpoints(2)


def test_a_rolling_restart_of_the_engines_loses_no_request(cluster, guide):
    guide.ask_until_cached(GUIDE_PROMPT, 2)
    old = guide.engine_ips()
    with Background(lambda: guide.send("short", max_tokens=2).status_code) as load:
        cluster.kubectl("rollout", "restart", guide.decode, "-n", NAMESPACE)
        cluster.kubectl("rollout", "status", guide.decode, "-n", NAMESPACE, "--timeout", "120s")
        wait_until(lambda: not guide.engine_ips() & old, "only new pods", 60)
        guide.wait_endpoints(2)
    assert set(load.results) == {200}, load.results
    scores = guide.ask()[1]
    assert scores is None, "new pods hold nothing"
    assert guide.ask_until_cached(GUIDE_PROMPT, 2).keys() <= guide.engine_ips()


def test_a_rolling_restart_of_the_picker_finds_the_engines_again(cluster, guide):
    guide.ask_until_cached(GUIDE_PROMPT, 2)
    old = guide.picker()["metadata"]["name"]
    with Background(lambda: guide.send("short", max_tokens=2).status_code) as load:
        cluster.kubectl("rollout", "restart", "deployment/gaie-kv-events-epp", "-n", NAMESPACE)
        cluster.kubectl("rollout", "status", "deployment/gaie-kv-events-epp", "-n", NAMESPACE, "--timeout", "180s")
        wait_until(lambda: old not in [p["metadata"]["name"] for p in cluster.api.items(path("Pod", NAMESPACE))], "the old picker is gone", 180)
    assert set(load.results) == {200}, load.results
    guide.wait_endpoints(2)
    fresh = "After the restart. " + GUIDE_PROMPT
    guide.ask_until_cached(fresh, 3)


def test_the_pools_selector_and_port_can_change(cluster, guide):
    before = guide.engine_ips()
    guide.patch_pool({"selector": {"llm-d.ai/inferenceServing": "nobody"}})
    wait_until(lambda: guide.endpoints() == [], lambda: f"no endpoint: {guide.endpoints()}")
    assert guide.send().status_code == 503
    guide.patch_pool({"selector": {"llm-d.ai/inferenceServing": "true"}, "targetPortNumber": 8200})
    guide.wait_endpoints(2, port=8200)
    assert guide.send().status_code == 200
    guide.patch_pool({"targetPortNumber": 8000})
    guide.wait_endpoints(2)
    assert guide.engine_ips() == before and guide.send().status_code == 200


def test_a_second_apply_changes_nothing_that_runs(cluster, guide):
    pods = {p["metadata"]["uid"] for p in cluster.pods(NAMESPACE)}
    guide.apply()
    releases = json.loads(cluster.helm("list", "-n", NAMESPACE, "-o", "json"))
    assert {(r["name"], r["revision"], r["status"]) for r in releases} == {
        (name, "2", "deployed") for name in ("infra-kv-events", "gaie-kv-events", "ms-kv-events")}
    guide.wait_installed()
    assert {p["metadata"]["uid"] for p in cluster.pods(NAMESPACE)} == pods
    assert guide.send().status_code == 200


def test_a_second_install_is_independent_and_both_go_without_a_trace(cluster, guide):
    twin = Guide(cluster, postfix="kv-events-2")
    twin.apply()
    twin.wait_installed()
    guide.wait_endpoints(2)
    assert len(json.loads(cluster.helm("list", "-n", NAMESPACE, "-o", "json"))) == 6

    prompt = "Only the twin has seen this. " + GUIDE_PROMPT
    first, second = len(guide.scores()), {e["url"] for e in guide.endpoints()} & {e["url"] for e in twin.endpoints()}
    assert not second
    assert twin.ask_until_cached(prompt, 3).keys() <= twin.engine_ips()
    assert len(guide.scores()) == first and guide.ask(prompt)[1] is None

    twin.helmfile("destroy", environment=False)
    wait_until(lambda: not {x for x in twin.everything() if "kv-events-2" in x}, lambda: f"nothing of the twin: {twin.everything()}", 90)
    guide.wait_endpoints(2)
    assert guide.send().status_code == 200

    guide.helmfile("destroy", environment=False)
    wait_until(lambda: not guide.everything(), lambda: f"nothing left: {guide.everything()}", 90)
    assert json.loads(cluster.helm("list", "-n", NAMESPACE, "-o", "json")) == []
    cluster.check()
