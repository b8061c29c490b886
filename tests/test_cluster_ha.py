"""Several replicas over the same engines: each dials their events itself, and they come to the same scores without speaking to each other. With leader
election one of them is ready, and a lease says which."""

import time

import httpx
import pytest

from engines import ScriptedEngine
from fake_kube import NAMESPACE, FakeKube, pod, pool
from harness import MODEL, PARAGRAPH, ROOT, wait_until
from test_epp import health, proto  # noqa: F401  (proto is a fixture)

CONFIG = ROOT / "deploy/config/precise-prefix.yaml"
WITHIN = 2.0  # seconds from the last answer
BLOCKS = 6  # at least, of each prompt


def prompts(topic):
    return [f"{topic} {i}. " + PARAGRAPH * 4 for i in range(6)]


def view(replica, asked):
    """What this replica would score each prompt with, per engine."""
    out = []
    for prompt in asked:
        answer = httpx.post(replica.api + "/api/v1/explain?path=/v1/completions", json={"model": MODEL, "prompt": prompt}, timeout=10)
        assert answer.status_code == 200, answer.text
        out.append([(e["name"], e["matched_blocks"], e["cached_tokens"], e["scores"], e["total"]) for e in answer.json()["endpoints"]])
    return out


def assert_converge(replicas, asked, known):
    """They agree within the time allowed from now; `known` says whether what they agree on is right: the best match of each prompt, in blocks."""
    since = time.monotonic()
    while True:
        views = [view(replica, asked) for replica in replicas]
        took = time.monotonic() - since
        if all(other == views[0] for other in views[1:]) and known([max(e[1] for e in endpoints) for endpoints in views[0]]):
            return
        assert took < WITHIN, f"after {took:.1f} s: {views}"
        time.sleep(0.02)


def all_warm(matches):
    return min(matches) >= BLOCKS


def none_warm(matches):
    return max(matches) == 0


def start_replica(factory, engines):
    return factory.serve("--config-file", CONFIG, engines=engines).wait_ready().wait_events(len(engines))


@pytest.fixture(scope="module")
def engines(start_shared):
    return start_shared.sim(count=3).engines()


@pytest.fixture(scope="module")
def replicas(start_shared, engines):
    return [start_replica(start_shared, engines) for _ in range(2)]


def test_replicas_that_share_the_traffic_score_alike(replicas):
    asked = prompts("Shared")
    for turn in range(4):
        for i, prompt in enumerate(asked):
            assert replicas[(turn + i) % 2].complete(prompt + f" Turn {turn}.", max_tokens=4).status_code == 200
    assert_converge(replicas, asked, all_warm)
    held = [{e["url"]: e["blocks"] for e in replica.endpoints()} for replica in replicas]
    assert held[0] == held[1] and sum(held[0].values()) >= len(asked) * BLOCKS


def test_a_replica_without_traffic_knows_what_the_other_routed(replicas):
    asked = prompts("One-sided")
    for prompt in asked:
        assert replicas[0].complete(prompt, max_tokens=4).status_code == 200
    assert_converge(replicas, asked, all_warm)


def test_a_replica_that_starts_late_catches_up(start, replicas, engines):
    asked = prompts("Earlier")
    for prompt in asked:
        assert replicas[0].complete(prompt, max_tokens=4).status_code == 200
    late = start_replica(start, engines)
    assert_converge([*replicas, late], asked, all_warm)


def test_replicas_agree_after_the_engines_cleared_their_caches(replicas, engines):
    asked = prompts("Forgotten")
    for i, prompt in enumerate(asked):
        assert replicas[i % 2].complete(prompt, max_tokens=4).status_code == 200
    assert_converge(replicas, asked, all_warm)
    for engine in engines:
        assert httpx.post(engine["url"] + "/reset_prefix_cache").status_code == 200
        httpx.post(engine["url"] + "/v1/completions", json={"model": MODEL, "prompt": "short", "max_tokens": 1})  # a step, which announces it
    assert_converge(replicas, asked, none_warm)


LEASE = f"epp-{NAMESPACE}-gaie.llm-d.ai"
LABELS = {"app": "vllm"}


@pytest.fixture
def elected(start, tmp_path):
    """(API server, how to start a replica of a pool of one engine by its pod's name)."""
    engine = ScriptedEngine(MODEL, {})
    with FakeKube() as kube:
        kube.apply(pool("gaie", LABELS, [int(engine.url.rpartition(":")[2])]), pod("decode-0", "127.0.0.1", LABELS))
        config = kube.kubeconfig(tmp_path)
        yield kube, lambda name: start.epp(
            "--pool-name", "gaie", "--pool-namespace", NAMESPACE, "--kubeconfig", config, "--ha-enable-leader-election", "--metrics-endpoint-auth=false",
            "--drain-timeout", "1s", tokenizer=False, env={"POD_NAME": name})
        start.stop()
    engine.close()


def holder(kube):
    lease = kube.get("leases", LEASE)
    return lease["spec"]["holderIdentity"].partition("_")[0] if lease else None


def test_the_leader_alone_is_ready_and_hands_over_when_it_ends(elected, proto):  # noqa: F811
    kube, replica = elected
    first = replica("epp-1")
    wait_until(lambda: health(proto, first, "readiness") == "SERVING", "the first replica leads")
    assert holder(kube) == "epp-1"
    second = replica("epp-2")
    wait_until(lambda: second.metric("llm_d_epp_ready_endpoints") == 1, "the follower knows the pool too")
    for service, leader, follower in (("readiness", "SERVING", "NOT_SERVING"), ("", "SERVING", "NOT_SERVING"), ("liveness", "SERVING", "SERVING"),
                                      ("envoy.service.ext_proc.v3.ExternalProcessor", "SERVING", "NOT_SERVING"),
                                      ("inference-extension", "SERVICE_UNKNOWN", "SERVICE_UNKNOWN")):
        assert (health(proto, first, service), health(proto, second, service)) == (leader, follower), service
    assert (first.metric("warmpath_leader"), second.metric("warmpath_leader")) == (1, 0)

    spec = kube.get("leases", LEASE)["spec"]
    assert spec["leaseDurationSeconds"] == 15 and spec["leaseTransitions"] == 0
    assert first.stop() == 0
    wait_until(lambda: health(proto, second, "readiness") == "SERVING", "the second leads, without the lease's 15 s", 5)
    assert holder(kube) == "epp-2" and kube.get("leases", LEASE)["spec"]["leaseTransitions"] == 1
    assert second.log().count("This replica leads") == 1 and first.log().count("This replica no longer leads") == 1


def test_a_leader_that_dies_is_followed_when_its_lease_is_over(elected, proto):  # noqa: F811
    kube, replica = elected
    first, second = replica("epp-1"), None
    wait_until(lambda: holder(kube) == "epp-1", "the first replica leads")
    second = replica("epp-2")
    wait_until(lambda: kube.count("leases") > 3, "the second has seen the lease")
    first.kill()
    killed = time.monotonic()
    wait_until(lambda: health(proto, second, "readiness") == "SERVING", "the second leads", 30)
    assert time.monotonic() - killed > 10, "before the lease was over"


def test_a_lease_that_may_not_be_written_leaves_the_replica_alive_and_not_ready(elected, proto):  # noqa: F811
    kube, replica = elected
    kube.rules = [{"apiGroups": [""], "resources": ["pods"]}, {"apiGroups": ["inference.networking.k8s.io"], "resources": ["inferencepools"]}]
    only = replica("epp-1")
    wait_until(lambda: "Leader election fails" in only.log(), "the refusal is logged")
    assert health(proto, only, "liveness") == "SERVING" and health(proto, only, "readiness") == "NOT_SERVING"
    kube.rules = None
    wait_until(lambda: health(proto, only, "readiness") == "SERVING", "ready once it may", 10)
