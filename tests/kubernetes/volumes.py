"""The volumes and the environment of a pod, read from the API as a kubelet reads them."""

import base64
import json
import pathlib

from api import path
from container import expand


class NotYet(Exception):
    """Something the pod names does not exist (yet): a kubelet tries again."""


class Source:
    """Objects that a pod's volumes and variables name."""

    def __init__(self, api, pod, address, node_ip):
        self.api, self.pod, self.address, self.node_ip = api, pod, address, node_ip
        self.namespace = pod["metadata"]["namespace"]

    def _data(self, plural, name, optional):
        found = self.api.find(path(("api/v1", plural), self.namespace, name))
        if found is None:
            if optional:
                return {}
            raise NotYet(f"{plural[:-1]} {name!r} not found")
        if plural == "secrets":
            return {k: base64.b64decode(v) for k, v in found.get("data", {}).items()}
        return {**{k: v.encode() for k, v in found.get("data", {}).items()},
                **{k: base64.b64decode(v) for k, v in found.get("binaryData", {}).items()}}

    def token(self, audience, seconds):
        spec = {"expirationSeconds": seconds, "boundObjectRef": {
            "apiVersion": "v1", "kind": "Pod", "name": self.pod["metadata"]["name"], "uid": self.pod["metadata"]["uid"]}}
        if audience:
            spec["audiences"] = [audience]
        where = path(("api/v1", "serviceaccounts"), self.namespace, self.pod["spec"].get("serviceAccountName", "default"), "token")
        return self.api.request("POST", where, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})["status"]["token"]

    def field(self, where):
        meta = self.pod["metadata"]
        if where.startswith("metadata.labels["):
            return meta.get("labels", {}).get(where[16:-1].strip("'\""), "")
        if where.startswith("metadata.annotations["):
            return meta.get("annotations", {}).get(where[21:-1].strip("'\""), "")
        lines = lambda items: "\n".join(f"{k}={json.dumps(v)}" for k, v in items.items())  # noqa: E731
        return {
            "metadata.name": meta["name"], "metadata.namespace": self.namespace, "metadata.uid": meta["uid"],
            "metadata.labels": lines(meta.get("labels", {})), "metadata.annotations": lines(meta.get("annotations", {})),
            "spec.nodeName": self.pod["spec"].get("nodeName", ""), "spec.serviceAccountName": self.pod["spec"].get("serviceAccountName", ""),
            "status.podIP": self.address, "status.podIPs": self.address, "status.hostIP": self.node_ip,
        }[where]

    def files(self, volume):
        """{relative path: bytes} of a volume made of objects; None for the other kinds."""
        if "configMap" in volume:
            return self._keys("configmaps", volume["configMap"], volume["configMap"].get("name"))
        if "secret" in volume:
            return self._keys("secrets", volume["secret"], volume["secret"].get("secretName"))
        if "downwardAPI" in volume:
            return self._downward(volume["downwardAPI"])
        if "projected" in volume:
            out = {}
            for source in volume["projected"]["sources"]:
                if "serviceAccountToken" in source:
                    t = source["serviceAccountToken"]
                    out[t["path"]] = self.token(t.get("audience"), max(600, t.get("expirationSeconds", 3600))).encode()
                elif "configMap" in source:
                    out.update(self._keys("configmaps", source["configMap"], source["configMap"]["name"]))
                elif "secret" in source:
                    out.update(self._keys("secrets", source["secret"], source["secret"]["name"]))
                elif "downwardAPI" in source:
                    out.update(self._downward(source["downwardAPI"]))
            return out
        return None

    def _downward(self, spec):
        return {item["path"]: self.field(item["fieldRef"]["fieldPath"]).encode() for item in spec.get("items", [])}

    def _keys(self, plural, spec, name):
        data = self._data(plural, name, spec.get("optional", False))
        if "items" not in spec:
            return data
        missing = [i["key"] for i in spec["items"] if i["key"] not in data]
        if missing and not spec.get("optional"):
            raise NotYet(f"{plural[:-1]} {name!r} has no key {missing[0]!r}")
        return {i["path"]: data[i["key"]] for i in spec["items"] if i["key"] in data}

    def environment(self, container, base):
        out = dict(base)
        for source in container.get("envFrom", []):
            for plural, key in (("configmaps", "configMapRef"), ("secrets", "secretRef")):
                if key in source:
                    data = self._data(plural, source[key]["name"], source[key].get("optional", False))
                    out.update({source.get("prefix", "") + k: v.decode() for k, v in data.items()})
        for variable in container.get("env", []):
            value = self._variable(variable, out)
            if value is not None:
                out[variable["name"]] = value
        return out

    def _variable(self, variable, so_far):
        source = variable.get("valueFrom")
        if source is None:
            return expand(variable.get("value", ""), so_far)
        if "fieldRef" in source:
            return self.field(source["fieldRef"]["fieldPath"])
        if "resourceFieldRef" in source:
            return "1"
        plural, ref = ("secrets", source["secretKeyRef"]) if "secretKeyRef" in source else ("configmaps", source["configMapKeyRef"])
        data = self._data(plural, ref["name"], ref.get("optional", False))
        if ref["key"] not in data:
            if ref.get("optional"):
                return None
            raise NotYet(f"{plural[:-1]} {ref['name']!r} has no key {ref['key']!r}")
        return data[ref["key"]].decode()


def write(directory, source, volumes):
    """Every volume below `directory`: {name: (path, writable)}."""
    out = {}
    for volume in volumes:
        where = directory / volume["name"]
        files = source.files(volume)
        if files is not None:
            where.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                target = where / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                target.chmod(0o644)
            out[volume["name"]] = (where, False)
        elif "hostPath" in volume:
            out[volume["name"]] = (pathlib.Path(volume["hostPath"]["path"]), True)
        elif "emptyDir" in volume or "ephemeral" in volume:
            where.mkdir(parents=True, exist_ok=True)
            where.chmod(0o777)
            out[volume["name"]] = (where, True)
        elif "persistentVolumeClaim" in volume:
            raise NotYet(f"volume {volume['name']!r}: no storage here")
        else:
            raise NotYet(f"volume {volume['name']!r}: unknown kind")
    return out
