"""Fixtures: simulated engines and routers of the real binary, on ports the system picks, ended whatever happens."""

import contextlib
import json

import pytest

import envoy
import harness

EVENTS = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": "tcp://*:0", "replay_endpoint": "tcp://*:0"}


class Factory:
    def __init__(self, directory):
        self.directory = directory
        self.started = []

    def _start(self, kind, name, args, env=None):
        names = {process.name for process in self.started}
        unique = name
        while unique in names:
            unique += "x"
        process = kind(self.directory, unique, args, env)
        self.started.append(process)
        return process

    def sim(self, *flags, count=1, block_size=64, host="127.0.0.1", port=0, events=EVENTS, model=harness.MODEL, tokenizer=True, blocks=512):
        args = ["sim", model, "--host", host, "--port", port, "--count", count, "--block-size", block_size,
                "--num-gpu-blocks-override", blocks, "--enable-prompt-tokens-details"]
        if tokenizer:  # else words are tokens, and nothing has to be loaded
            args += ["--tokenizer", harness.TOKENIZER]
        if events:
            args += ["--kv-events-config", json.dumps(events)]
        return self._start(harness.Sim, "sim", [*args, *flags])

    def serve(self, *flags, engines=(), env=None, tokenizer=True):
        args = ["serve", "--listen", "127.0.0.1:0", "--metrics-port", 0, "--model", harness.MODEL]
        if tokenizer:
            args += ["--tokenizer", harness.TOKENIZER]
        for engine in engines:
            args += ["--endpoint", engine if isinstance(engine, str) else harness.endpoint_flag(engine)]
        return self._start(harness.Router, "serve", [*args, *flags], env)

    def epp(self, *flags, engines=(), env=None, tokenizer=True, secure=False):
        args = ["epp", "--grpc-host", "127.0.0.1", "--grpc-port", 0, "--grpc-health-port", 0, "--metrics-host", "127.0.0.1", "--metrics-port", 0,
                "--model", harness.MODEL]
        if "--drain-timeout" not in flags:
            args += ["--drain-timeout", "5s"]
        if not secure:
            args += ["--secure-serving=false"]
        if tokenizer:
            args += ["--tokenizer", harness.TOKENIZER]
        for engine in engines:
            args += ["--endpoint", engine if isinstance(engine, str) else harness.endpoint_flag(engine)]
        return self._start(harness.Router, "epp", [*args, *flags], env)

    def envoy(self, epp, *args, **kwargs):
        """In front of a picker (or of an address where one should be)."""
        address = epp if isinstance(epp, str) else epp.listeners["grpc"]
        directory = self.directory / f"envoy{len(self.started)}"
        directory.mkdir()
        process = envoy.Envoy(directory, address, *args, **kwargs)
        self.started.append(process)
        return process

    def stop(self):
        for process in reversed(self.started):
            with contextlib.suppress(ProcessLookupError):
                process.popen.terminate()
        for process in self.started:
            with contextlib.suppress(AssertionError):
                process.stop(5)


@pytest.fixture
def start(tmp_path):
    factory = Factory(tmp_path)
    yield factory
    factory.stop()


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory):
    factory = Factory(tmp_path_factory.mktemp("shared"))
    yield factory
    factory.stop()


@pytest.fixture(scope="module")
def fleet(start_shared):
    """(simulated engines, a router in front of them), shared by the tests of one file."""
    sim = start_shared.sim(count=2)
    router = start_shared.serve("--expose-decision", "-v", 4, engines=sim.engines())
    router.wait_ready().wait_events(2)
    return sim, router


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the ends of its processes' logs."""
    report = (yield).get_result()
    if report.failed:
        for name in ("start", "start_shared"):
            for process in getattr(item.funcargs.get(name), "started", []):
                report.sections.append((f"log of {process.name}", process.log()[-3000:]))
