"""Helm charts rendered, and their objects held against schemas: Kubernetes' own, and the resource definitions of ours and others."""

import functools
import json
import os
import subprocess

import jsonschema
import kubernetes_validate
import yaml

from harness import ROOT

CHARTS = ROOT / "deploy/charts"
TOOLS = ROOT / ".deps/bin"
KUBERNETES = "1.35"

# Kinds for which no schema is to be had from a package registry.
WITHOUT_SCHEMA = {
    "gateway.kgateway.dev/v1alpha1 GatewayParameters",
    "monitoring.googleapis.com/v1 PodMonitoring",
    "networking.gke.io/v1 GCPBackendPolicy",
    "networking.gke.io/v1 HealthCheckPolicy",
}
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding"}


def names():
    return sorted(path.parent.name for path in CHARTS.glob("*/Chart.yaml"))


def helm(*args, values=None):
    """(exit code, standard output, standard error)"""
    command = [TOOLS / "helm", *map(str, args)]
    if values is not None:
        command += ["-f", "-"]
    done = subprocess.run(command, input=json.dumps(values or {}), capture_output=True, text=True, timeout=60,
                          env={**os.environ, "HELM_CACHE_HOME": "/nonexistent", "HELM_CONFIG_HOME": "/nonexistent", "HELM_DATA_HOME": "/nonexistent"})
    return done.returncode, done.stdout, done.stderr


def render(chart, values=None, *, release="gaie-kv-events", namespace="llm-d-precise", files=()):
    """The chart's objects, those of its hooks and of `helm test` among them."""
    return [o for o in yaml.load_all(_rendered(chart, json.dumps(values or {}), release, namespace, tuple(files)), yaml.CSafeLoader) if o]


@functools.cache
def _rendered(chart, values, release, namespace, files):
    code, out, err = helm("template", release, CHARTS / chart, "-n", namespace, "--kube-version", KUBERNETES + ".0", *(a for f in files for a in ("-f", f)),
                          values=json.loads(values))
    assert code == 0, f"{chart}: {err}"
    return out


def refusal(chart, values, **kwargs):
    """What helm says to values it must not render."""
    code, out, err = helm("template", kwargs.get("release", "gaie-kv-events"), CHARTS / chart, "-n", "llm-d-precise", values=values)
    assert code != 0, f"rendered: {out}"
    return err


def one(objects, kind, name=None):
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) == 1, f"{kind} {name}: {[(o['kind'], o['metadata']['name']) for o in objects]}"
    return found[0]


# ---- schemas

def _strict(schema):
    """A copy that knows no fields but those it names, as the API server does not either."""
    if isinstance(schema, list):
        return [_strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: _strict(s) for name, s in value.items()}
        elif key in ("items", "additionalProperties"):
            out[key] = _strict(value)
        elif key not in ("default", "example", "format"):
            out[key] = value
    if schema.get("properties") and "additionalProperties" not in schema and schema.get("type") == "object" \
            and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = False
    return out


@functools.cache
def definitions():
    """(apiVersion, kind) -> (its schema, the file it is from)"""
    found = {}
    for path in [*(ROOT / "deploy/crds").glob("*.yaml"), *(ROOT / ".deps/crds").glob("*/*.yaml")]:
        for document in yaml.load_all(path.read_text(), yaml.CSafeLoader):
            if not document or document["kind"] != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            for version in spec["versions"]:
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = (version["schema"]["openAPIV3Schema"], path)
    return found


@functools.cache
def _validator(api_version, kind):
    schema = _strict(definitions()[api_version, kind][0])
    schema["properties"].update(apiVersion={"type": "string"}, kind={"type": "string"})
    return jsonschema.Draft202012Validator(schema)


def validate(given):
    """Raises when the API server would refuse the object, or drop a part of it."""
    kind = (given["apiVersion"], given["kind"])
    where = f"{given['kind']} {given['metadata']['name']}"
    if " ".join(kind) in WITHOUT_SCHEMA:
        return
    if kind in definitions():
        bare = {key: value for key, value in given.items() if key != "metadata"}
        error = jsonschema.exceptions.best_match(_validator(*kind).iter_errors(bare))
        assert error is None, f"{where}: {error.json_path}: {error.message}"
    else:
        try:
            kubernetes_validate.validate(given, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise AssertionError(f"{where}: {'.'.join(map(str, error.path))}: {error.message}") from None
    meta = given["metadata"]
    for label, value in (meta.get("labels") or {}).items():
        assert isinstance(value, str) and len(value) <= 63, f"{where}: label {label}"
    assert len(meta["name"]) <= 253 and ("namespace" in meta) != (given["kind"] in CLUSTER_WIDE), where


def pods(objects):
    """(owner, pod spec) of everything that makes pods."""
    for given in objects:
        if given["kind"] == "Pod":
            yield given, given["spec"]
        elif given["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield given, given["spec"]["template"]["spec"]
