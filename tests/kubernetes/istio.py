"""The part of Istio that the guide uses: for a Gateway a Deployment with Envoy and a Service, for a pool its headless shadow Service,
and Envoy's configuration from routes, pools, destination rules and ready pods. The Envoy is the real one."""

import copy
import hashlib
import json
import threading
import time

import httpx
import yaml

import envoy
from api import Watched, path
from network import DOMAIN

GATEWAY_API = "apis/gateway.networking.k8s.io/v1"
POOLS = ("inference.networking.k8s.io/v1", "inference.networking.x-k8s.io/v1alpha2")
EXTERNAL_IP = "192.0.2.10"
CLUSTER_TYPE = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER_TYPE = "type.googleapis.com/envoy.config.listener.v3.Listener"


def merge(base, patch):
    """Strategic merge: maps by key, lists of named things by name, other lists replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        out = dict(base)
        for key, value in patch.items():
            out[key] = merge(base[key], value) if key in base else value
        return out
    if isinstance(base, list) and isinstance(patch, list) and all(isinstance(i, dict) and "name" in i for i in [*base, *patch]):
        named = {i["name"]: i for i in base}
        for item in patch:
            named[item["name"]] = merge(named.get(item["name"], {}), item)
        return list(named.values())
    return patch


def owner(item):
    return [{"apiVersion": item["apiVersion"], "kind": item["kind"], "name": item["metadata"]["name"], "uid": item["metadata"]["uid"],
             "controller": True, "blockOwnerDeletion": True}]


def shadow_name(pool):
    return f"{pool}-ip-{hashlib.sha256(pool.encode()).hexdigest()[:8]}"


class Istio:
    """`backends(service, port)`: [(address, port)] of the ready pods behind it; `wake` when pods have changed."""

    def __init__(self, api, directory, complaints, backends):
        self.api, self.directory, self.complaints, self._backends = api, directory, complaints, backends
        self._wake = threading.Event()
        self.stopping = False
        tell = lambda *_: self._wake.set()  # noqa: E731
        self.gateways = Watched(api, f"/{GATEWAY_API}/gateways", tell)
        self.routes = Watched(api, f"/{GATEWAY_API}/httproutes", tell)
        self.rules = Watched(api, "/apis/networking.istio.io/v1beta1/destinationrules", tell)
        self.services = Watched(api, "/api/v1/services", tell)
        self.pools = {version: Watched(api, f"/apis/{version}/inferencepools", tell) for version in POOLS}
        threading.Thread(target=self._run, daemon=True).start()

    def wake(self):
        self._wake.set()

    def stop(self):
        self.stopping = True
        for watched in (self.gateways, self.routes, self.rules, self.services, *self.pools.values()):
            watched.stop()
        self._wake.set()

    def _run(self):
        while not self.stopping:
            self._wake.wait()
            self._wake.clear()
            for gateway in self.gateways.objects():
                try:
                    if gateway["spec"]["gatewayClassName"] == "istio" and not self.stopping and "deletionTimestamp" not in gateway["metadata"]:
                        self._reconcile(gateway)
                except Exception as error:  # noqa: BLE001  (objects change under us: the next event tries again; the last word is kept)
                    self.complaints[gateway["metadata"]["name"]] = f"{type(error).__name__}: {error}"
                    time.sleep(0.2)
                    self._wake.set()
                else:
                    self.complaints.pop(gateway["metadata"]["name"], None)

    def _reconcile(self, gateway):
        namespace, name = gateway["metadata"]["namespace"], gateway["metadata"]["name"]
        route = self._route_of(gateway)
        pool = self._pool_of(route)
        self._write_envoy(gateway, pool)
        self._deploy(gateway)
        if pool is not None:
            self._shadow(pool)
        status = {"conditions": [self._condition(gateway, "Accepted"), self._condition(gateway, "Programmed")],
                  "addresses": [{"type": "IPAddress", "value": EXTERNAL_IP}]}
        if [c["type"] for c in gateway.get("status", {}).get("conditions", []) if c["status"] == "True"] != ["Accepted", "Programmed"]:
            self.api.merge(path(("apis/gateway.networking.k8s.io/v1", "gateways"), namespace, name, "status"), {"status": status}, ok=(404, 409))
        if route is not None and not route.get("status", {}).get("parents"):
            parent = {"parentRef": route["spec"]["parentRefs"][0], "controllerName": "istio.io/gateway-controller",
                      "conditions": [self._condition(route, "Accepted"), self._condition(route, "ResolvedRefs")]}
            self.api.merge(path((GATEWAY_API, "httproutes"), namespace, route["metadata"]["name"], "status"), {"status": {"parents": [parent]}}, ok=(404, 409))

    @staticmethod
    def _condition(item, kind):
        return {"type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": item["metadata"].get("generation", 1),
                "lastTransitionTime": item["metadata"]["creationTimestamp"]}

    def _route_of(self, gateway):
        meta = gateway["metadata"]
        routes = [r for r in self.routes.objects() if r["metadata"]["namespace"] == meta["namespace"] and
                  any(p["name"] == meta["name"] for p in r["spec"].get("parentRefs", []))]
        return min(routes, key=lambda r: r["metadata"]["creationTimestamp"], default=None)

    def _pool_of(self, route):
        """The pool of the route's first backend, in the API group the route names."""
        if route is None:
            return None
        backend = route["spec"]["rules"][0]["backendRefs"][0]
        version = next((v for v in POOLS if v.split("/")[0] == backend.get("group")), None)
        if backend.get("kind") != "InferencePool" or version is None:
            return None
        return next((p for p in self.pools[version].objects()
                     if (p["metadata"]["namespace"], p["metadata"]["name"]) == (route["metadata"]["namespace"], backend["name"])), None)

    def _deploy(self, gateway):
        namespace, name = gateway["metadata"]["namespace"], f"{gateway['metadata']['name']}-istio"
        labels = {"gateway.networking.k8s.io/gateway-name": gateway["metadata"]["name"], "gateway.networking.k8s.io/gateway-class-name": "istio"}
        selector = {"gateway.networking.k8s.io/gateway-name": gateway["metadata"]["name"]}
        container = {"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.28.0", "ports": [{"containerPort": 15021, "name": "status-port"}],
                     "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021}},
                     "volumeMounts": [{"name": "configuration", "mountPath": "/etc/istio"}]}
        volume = {"name": "configuration", "hostPath": {"path": str(self._files(gateway))}}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment",
                      "metadata": {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": owner(gateway)},
                      "spec": {"replicas": 1, "selector": {"matchLabels": selector},
                               "template": {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": [volume]}}}}
        ports = [{"name": "status-port", "port": 15021, "protocol": "TCP"},
                 *({"name": li["name"], "port": li["port"], "protocol": "TCP"} for li in gateway["spec"]["listeners"])]
        kind = gateway["metadata"].get("annotations", {}).get("networking.istio.io/service-type", "LoadBalancer")
        service = {"apiVersion": "v1", "kind": "Service",
                   "metadata": {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": owner(gateway)},
                   "spec": {"type": kind, "selector": selector, "ports": ports}}
        reference = gateway["spec"].get("infrastructure", {}).get("parametersRef")
        if reference and reference["kind"] == "ConfigMap":
            found = self.api.get(path(("api/v1", "configmaps"), namespace, reference["name"]))["data"]
            deployment = merge(deployment, yaml.safe_load(found.get("deployment", "")) or {})
            service = merge(service, yaml.safe_load(found.get("service", "")) or {})
        self.api.apply(path("Deployment", namespace, name), deployment)
        made = self.api.apply(path("Service", namespace, name), service)
        if made["spec"]["type"] == "LoadBalancer" and not made.get("status", {}).get("loadBalancer", {}).get("ingress"):
            self.api.merge(path("Service", namespace, name, "status"), {"status": {"loadBalancer": {"ingress": [{"ip": EXTERNAL_IP}]}}})

    def _shadow(self, pool):
        spec, meta = pool["spec"], pool["metadata"]
        ports = [p["number"] for p in spec["targetPorts"]] if "targetPorts" in spec else [spec["targetPortNumber"]]
        selector = spec["selector"].get("matchLabels", spec["selector"]) if "targetPorts" in spec else spec["selector"]
        reference = spec.get("endpointPickerRef") or spec["extensionRef"]
        service = {"apiVersion": "v1", "kind": "Service",
                   "metadata": {"name": shadow_name(meta["name"]), "namespace": meta["namespace"], "ownerReferences": owner(pool),
                                "labels": {"istio.io/inferencepool-name": meta["name"], "istio.io/inferencepool-extension-service": reference["name"]}},
                   "spec": {"clusterIP": "None", "selector": selector,
                            "ports": [{"name": f"http-{i}", "port": 54321 + i, "targetPort": p, "protocol": "TCP"} for i, p in enumerate(ports)]}}
        self.api.apply(path("Service", meta["namespace"], shadow_name(meta["name"])), service)

    # ---- Envoy ----
    def _files(self, gateway):
        return self.directory / f"{gateway['metadata']['namespace']}_{gateway['metadata']['name']}"

    def _write_envoy(self, gateway, pool):
        where = self._files(gateway)
        bootstrap = {"node": {"id": "gateway", "cluster": "gateway"}, "admin": {"address": {"socket_address": {"address": "0.0.0.0", "port_value": 15000}}},
                     "dynamic_resources": {f"{x}_config": {"path_config_source": {"path": f"/etc/istio/{x}/{x}.yaml", "watched_directory": {"path": f"/etc/istio/{x}"}},
                                                          "resource_api_version": "V3"} for x in ("lds", "cds")}}
        listeners, clusters = [self._health_listener()], []
        ends = {"@type": ENDPOINTS_TYPE, "cluster_name": "epp", "endpoints": [{"lb_endpoints": self._picker_endpoints(pool) if pool else []}]}
        for listener in gateway["spec"]["listeners"]:
            made, needed = self._listener(listener["port"], pool)
            listeners.append(made)
            clusters = needed
        for name, content in (("envoy.yaml", bootstrap), ("eds/eds.yaml", {"resources": [ends]}), ("cds/cds.yaml", {"resources": clusters}), ("lds/lds.yaml", {"resources": listeners})):
            text = yaml.safe_dump(content)
            file = where / name
            if not file.exists() or file.read_text() != text:
                file.parent.mkdir(parents=True, exist_ok=True)
                temporary = file.with_suffix(".tmp")
                temporary.write_text(text)
                temporary.rename(file)
                if name.startswith("cds"):
                    self._wait_for_clusters(gateway, {c["name"] for c in clusters})

    def _wait_for_clusters(self, gateway, names):
        """A running Envoy refuses a listener that names a cluster it has not read yet."""
        label = f"gateway.networking.k8s.io/gateway-name={gateway['metadata']['name']}"
        for pod in self.api.items(path("Pod", gateway["metadata"]["namespace"]), labelSelector=label):
            address = pod.get("status", {}).get("podIP")
            for _ in range(200 if address else 0):
                try:
                    if all(f"{name}::" in httpx.get(f"http://{address}:15000/clusters", timeout=2, trust_env=False).text for name in names):
                        break
                except httpx.HTTPError:
                    pass
                time.sleep(0.05)

    @staticmethod
    def _plain_manager(prefix, answer):
        config = copy.deepcopy(envoy.bootstrap("epp-tls"))
        manager = envoy.manager(config)
        manager["stat_prefix"] = prefix
        manager["http_filters"] = manager["http_filters"][-1:]
        manager["route_config"]["virtual_hosts"][0]["routes"] = [{"match": {"prefix": "/"}, "direct_response": {"status": answer}}]
        return config["static_resources"]["listeners"][0]

    def _health_listener(self):
        made = self._plain_manager("health", 200)
        made.update({"@type": LISTENER_TYPE, "name": "health"})
        made["address"]["socket_address"].update(address="0.0.0.0", port_value=15021)
        return made

    def _listener(self, port, pool):
        """(listener, clusters) of a gateway's port; without a pool it knows no route."""
        clusters = []
        if pool is None:
            made = self._plain_manager("inference", 404)
        else:
            config = copy.deepcopy(envoy.bootstrap("epp-tls"))
            made = config["static_resources"]["listeners"][0]
            clusters = [envoy.cluster(config, "model_servers"), self._picker(envoy.cluster(config, "epp"), pool)]
            reference = pool["spec"].get("endpointPickerRef") or pool["spec"]["extensionRef"]
            envoy.ext_proc(config)["failure_mode_allow"] = reference.get("failureMode") == "FailOpen"
        made.update({"@type": LISTENER_TYPE, "name": f"port-{port}"})
        made["address"]["socket_address"].update(address="0.0.0.0", port_value=port)
        return made, [{"@type": CLUSTER_TYPE, **c} for c in clusters]

    def _picker(self, cluster, pool):
        """The cluster of the pool's endpoint picker, with what a destination rule for its host says of TLS."""
        spec, namespace = pool["spec"], pool["metadata"]["namespace"]
        reference = spec.get("endpointPickerRef") or spec["extensionRef"]
        host = f"{reference['name']}.{namespace}.svc.{DOMAIN}"
        rules = [r for r in self.rules.objects() if r["metadata"]["namespace"] == namespace and r["spec"]["host"] in (host, reference["name"])]
        tls = rules[0]["spec"].get("trafficPolicy", {}).get("tls", {}) if rules else {}
        del cluster["health_checks"]
        if tls.get("mode") == "SIMPLE":
            context = {"alpn_protocols": ["h2"]}
            if not tls.get("insecureSkipVerify"):
                context["validation_context"] = {"trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"}}
            cluster["transport_socket"]["typed_config"].update(sni=host, common_tls_context=context)
        else:
            del cluster["transport_socket"]
        del cluster["load_assignment"]
        cluster["type"] = "EDS"
        where = {"path": "/etc/istio/eds/eds.yaml", "watched_directory": {"path": "/etc/istio/eds"}}
        cluster["eds_cluster_config"] = {"eds_config": {"path_config_source": where, "resource_api_version": "V3"}}
        return cluster

    def _picker_endpoints(self, pool):
        """The ready pods behind the service that the pool names: Istio's proxies know pods, not cluster addresses."""
        reference = pool["spec"].get("endpointPickerRef") or pool["spec"]["extensionRef"]
        number = reference.get("portNumber") or reference.get("port", {}).get("number") or 9002
        for service in self.services.objects():
            if (service["metadata"]["namespace"], service["metadata"]["name"]) == (pool["metadata"]["namespace"], reference["name"]):
                ports = [p for p in service["spec"]["ports"] if p["port"] == number]
                return [envoy.endpoint(f"{a}:{p}") for port in ports for a, p in sorted(self._backends(service, port))]
        return []

    def describe(self):
        return json.dumps(self.complaints)
