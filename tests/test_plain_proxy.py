"""The chart of the router as a plain proxy: the arguments and permissions it renders make a router that finds the pods, serves them, and knows their caches."""

import re

import httpx
import pytest

import charts
from fake_kube import NAMESPACE, FakeKube, pod
from harness import GUIDE_PROMPT, MODEL, ROOT, TOKENIZER, Router, wait_until

LABELS = {"llm-d.ai/inferenceServing": "true"}


def port_of(url):
    return int(url.rpartition(":")[2])


def rendered(values, directory):
    """(arguments, readiness path, rules) of the chart's router, with ports that the system picks."""
    objects = charts.render("warmpath", values, release="r", namespace=NAMESPACE)
    container = charts.one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["warmpath", "serve"]
    config = directory / "config.yaml"
    config.write_text("".join(o["data"]["config.yaml"] for o in objects if o["kind"] == "ConfigMap"))
    here = {"--listen": "127.0.0.1:0", "--metrics-host": "127.0.0.1", "--metrics-port": "0", "--config-file": str(config), "--verbosity": "4",
            "--log-format": "console"}
    args = [f"{name}={here.get(name, value)}" for name, _, value in (arg.partition("=") for arg in container["args"])]
    return args, container["readinessProbe"]["httpGet"]["path"], [r for o in objects if o["kind"] == "Role" for r in o["rules"]]


@pytest.fixture
def engine(start):
    return start.sim().engines()[0]


def launch(start, args, *more):
    return start._start(Router, "serve", ["serve", *args, "--tokenizer", TOKENIZER, *more])


def ask(router):
    answer = router.complete(GUIDE_PROMPT)
    assert answer.status_code == 200, answer.text
    return answer.json()["usage"]


def test_pods_of_the_selector_are_served_by_their_caches(start, engine, tmp_path):
    config = (ROOT / "deploy/config/precise-prefix.yaml").read_text()
    config = re.sub(r"socketPort: \d+", f"socketPort: {port_of(engine['events'])}", config)
    args, ready, rules = rendered({"endpoints": {"targetPorts": [port_of(engine["url"])]}, "config": config}, tmp_path)
    with FakeKube() as kube:
        kube.rules = rules
        kube.apply(pod("decode-0", "127.0.0.1", LABELS), pod("other-0", "127.0.0.2", {"app": "other"}))
        router = launch(start, args, "--kubeconfig", kube.kubeconfig(tmp_path)).wait_ready().wait_events(1)
        assert httpx.get(router.api + ready).status_code == 200
        assert [e["name"] for e in router.endpoints()] == ["decode-0"]
        assert ask(router)["prompt_tokens"] == 192
        wait_until(lambda: router.blocks() == 3, "three blocks by events")
        assert ask(router)["prompt_tokens_details"]["cached_tokens"] == 128
        assert router.pod_scores() == [None, {"127.0.0.1": 2}]
        kube.delete("pods", "decode-0")
        wait_until(lambda: router.endpoints() == [], "no endpoint")
        assert router.complete(GUIDE_PROMPT).status_code == 503
        assert router.stop() == 0


def test_a_fixed_list_needs_no_cluster(start, engine, tmp_path):
    args, _, rules = rendered({"endpoints": {"static": [f"{engine['url']},events={engine['events']}"]}, "model": {"name": MODEL}}, tmp_path)
    assert rules == []
    router = launch(start, args).wait_ready().wait_events(1)
    ask(router)
    wait_until(lambda: router.blocks() == 3, "three blocks by events")
    assert ask(router)["prompt_tokens_details"]["cached_tokens"] == 128
