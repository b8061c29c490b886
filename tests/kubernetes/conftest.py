"""One cluster for all tests of this directory; scripts/test_kubernetes.sh starts pytest in namespaces of its own."""

import itertools
import os
import re

import pytest

from cluster import Cluster

numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    if os.environ.get("WARMPATH_KUBERNETES_NAMESPACES") != "1":
        pytest.skip("run by ./dev test kubernetes, which gives the tests a network of their own")
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    memory = {name: made.control_plane.resident_megabytes(name) for name in ("etcd", "apiserver", "controller-manager")}
    print(f"cluster: ready after {made.seconds:.1f} s, resident MB {memory}")
    yield made
    made.stop()


@pytest.fixture
def namespace(cluster, request):
    """A namespace of the test's own, gone with everything in it afterwards."""
    words = re.sub("[^a-z0-9]+", "-", request.node.name.split("[")[0].removeprefix("test_"))
    name = f"t{next(numbers)}-{words[:30].strip('-')}"
    cluster.namespace(name)
    cluster.secret(name, "llm-d-hf-token", HF_TOKEN="hf_test")
    yield name
    cluster.api.delete(f"/api/v1/namespaces/{name}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    made = item.funcargs.get("cluster")
    if report.failed and made:
        report.sections.append(("cluster", "\n".join(made.explain(n) for n in {w.namespace for w in list(made.node.workers.values())})))
