"""A real Envoy in front of the endpoint picker: the committed bootstraps of deploy/envoy, on free ports."""

import copy
import subprocess

import httpx
import yaml

from harness import DEADLINE, ROOT, wait_until

BINARY = ROOT / ".deps/venv/bin/envoy"
BOOTSTRAPS = ROOT / "deploy/envoy"


def bootstrap(name):
    return yaml.safe_load((BOOTSTRAPS / f"{name}.yaml").read_text())


def manager(config):
    """The HTTP connection manager of a bootstrap."""
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def ext_proc(config):
    return next(f for f in manager(config)["http_filters"] if f["name"] == "envoy.filters.http.ext_proc")["typed_config"]


def cluster(config, name):
    return next(c for c in config["static_resources"]["clusters"] if c["name"] == name)


def endpoint(address):
    host, _, port = address.rpartition(":")
    return {"endpoint": {"address": {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}}}


def subset_from_header(config):
    """The header x-test-subset becomes the subset hint, as a gateway would give it (one comma string)."""
    rule = {"header": "x-test-subset", "remove": True,
            "on_header_present": {"metadata_namespace": "envoy.lb.subset_hint", "key": "x-gateway-destination-endpoint-subset", "type": "STRING"}}
    manager(config)["http_filters"].insert(0, {
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config", "request_rules": [rule]}})


def validate(config, directory):
    """What `envoy --mode validate` says of it: (accepted, output)."""
    path = directory / "validate.yaml"
    path.write_text(yaml.safe_dump(config))
    done = subprocess.run([BINARY, "--mode", "validate", "-c", path], capture_output=True, text=True, timeout=60)
    return done.returncode == 0, done.stdout + done.stderr


class Envoy:
    """One running Envoy. `engines`: addresses of the override_host bootstrap; `edit(config)` changes the bootstrap."""

    def __init__(self, directory, epp, name="epp", engines=(), edit=None, concurrency=1):
        config = copy.deepcopy(bootstrap(name))
        config["admin"]["address"]["socket_address"]["port_value"] = 0
        config["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = 0
        cluster(config, "epp")["load_assignment"]["endpoints"] = [{"lb_endpoints": [endpoint(epp)]}]
        if engines:
            cluster(config, "model_servers")["load_assignment"]["endpoints"] = [{"lb_endpoints": [endpoint(e) for e in engines]}]
        if edit:
            edit(config)
        self.name = "envoy"
        self.log_path = directory / "envoy.log"
        path, admin = directory / "envoy.yaml", directory / "envoy.admin"
        admin.unlink(missing_ok=True)
        path.write_text(yaml.safe_dump(config))
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(
                [BINARY, "-c", path, "--concurrency", str(concurrency), "--disable-hot-restart", "--log-level", "warning", "--admin-address-path", admin],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: self.popen.poll() is not None or (admin.exists() and admin.read_text().strip()), "envoy started")
            if self.popen.poll() is not None:
                raise AssertionError(f"envoy ended with {self.popen.returncode}: {self.log()}")
            self.admin = "http://" + admin.read_text().strip()
            listeners = wait_until(lambda: httpx.get(self.admin + "/listeners?format=json").json().get("listener_statuses"), "envoy listens")
            where = listeners[0]["local_address"]["socket_address"]
            self.url = f"http://{where['address']}:{where['port_value']}"
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self):
        return self.popen.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def stats(self):
        """{name: value} of Envoy's counters and gauges."""
        return {s["name"]: s["value"] for s in httpx.get(self.admin + "/stats?format=json", timeout=DEADLINE).json()["stats"] if "name" in s}

    def ext_proc_stat(self, name):
        return self.stats().get(f"http.inference.ext_proc.{name}", 0)

    def stop(self, timeout=DEADLINE):
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.returncode

    def kill(self):
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
