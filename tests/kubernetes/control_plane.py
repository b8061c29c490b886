"""etcd, kube-apiserver and kube-controller-manager, the real programs, with certificates of one test run."""

import base64
import datetime
import ipaddress
import os
import pathlib
import subprocess

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import network
from api import Api
from harness import ROOT, wait_until

DEPS = ROOT / ".deps"
BIN = pathlib.Path(os.environ.get("WARMPATH_KUBERNETES_BIN", DEPS / "kubernetes/bin"))
CRDS = DEPS / "crds"
SERVICE_IP = "10.96.0.1"
PORT = 6443
CONTROLLERS = ("deployment-controller", "replicaset-controller", "statefulset-controller", "job-controller", "serviceaccount-controller",
               "serviceaccount-token-controller", "root-ca-certificate-publisher-controller", "endpoints-controller",
               "endpointslice-controller", "namespace-controller", "garbage-collector-controller", "disruption-controller")


class Certificates:
    def __init__(self, directory):
        self.directory = directory
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])
        self.ca = directory / "ca.crt"
        cert = self._builder(self._ca_name, self._ca_key).add_extension(x509.BasicConstraints(True, None), True).sign(self._ca_key, hashes.SHA256())
        self.ca.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        self.service_account_key = directory / "sa.key"
        self._write_key(rsa.generate_private_key(65537, 2048), self.service_account_key)

    def issue(self, name, organization=None, hosts=()):
        """(certificate, key) files, good for a server at `hosts` and for a client of this name and group."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if organization:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        builder = self._builder(x509.Name(attributes), key).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        if hosts:
            names = [x509.IPAddress(ipaddress.ip_address(h)) if h[0].isdigit() else x509.DNSName(h) for h in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        file = name.replace(":", "-")
        cert_path, key_path = self.directory / f"{file}.crt", self.directory / f"{file}.key"
        cert_path.write_bytes(builder.sign(self._ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        self._write_key(key, key_path)
        return cert_path, key_path

    def _builder(self, subject, key):
        now = datetime.datetime.now(datetime.timezone.utc)
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(self._ca_name).public_key(key.public_key())
                .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
                .not_valid_after(now + datetime.timedelta(days=2)))

    @staticmethod
    def _write_key(key, where):
        where.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


class ControlPlane:
    def __init__(self, directory):
        self.directory = directory
        self._processes = {}
        self.certificates = Certificates(directory)
        self.ca = self.certificates.ca
        self.server = f"https://{network.NODE_IP}:{PORT}"
        self.admin_cert, self.admin_key = self.certificates.issue("admin", "system:masters")
        self.kubelet_cert, self.kubelet_key = self.certificates.issue("kubelet", hosts=[network.NODE_IP, "127.0.0.1"])
        self.kubeconfig = directory / "kubeconfig"
        self.write_kubeconfig(self.kubeconfig)
        self.api = Api(self.server, self.ca, self.admin_cert, self.admin_key)
        # Of the node's programs, which outlive a time without it.
        self.patient_api = Api(self.server, self.ca, self.admin_cert, self.admin_key, patience=120)

    def write_kubeconfig(self, where):
        encode = lambda path: base64.b64encode(path.read_bytes()).decode()  # noqa: E731
        where.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "rig",
            "clusters": [{"name": "rig", "cluster": {"server": self.server, "certificate-authority-data": encode(self.ca)}}],
            "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "admin"}}],
            "users": [{"name": "admin", "user": {"client-certificate-data": encode(self.admin_cert), "client-key-data": encode(self.admin_key)}}],
        }))
        where.chmod(0o600)

    def start(self):
        self._start_etcd()
        self.start_apiserver()
        # Its 3 seconds pass while the rest gets ready.
        self._run("controller-manager", [
            BIN / "kube", "controller-manager", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false",
            f"--controllers={','.join(CONTROLLERS)}", f"--service-account-private-key-file={self.certificates.service_account_key}",
            f"--root-ca-file={self.ca}", "--bind-address=127.0.0.1", "--secure-port=0", "--min-resync-period=1h",
            "--kube-api-qps=500", "--kube-api-burst=500", "--concurrent-deployment-syncs=2"])
        return self

    def _start_etcd(self):
        self._run("etcd", [
            DEPS / "venv/bin/etcd" if not (BIN / "etcd").exists() else BIN / "etcd", "--data-dir", self.directory / "etcd",
            "--unsafe-no-fsync", "--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
            "--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "warn"])

    def start_apiserver(self):
        cert, key = self.certificates.issue("kube-apiserver", hosts=[
            "kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{network.DOMAIN}", "localhost", "127.0.0.1",
            network.NODE_IP, SERVICE_IP])
        client_cert, client_key = self.certificates.issue("kube-apiserver-kubelet-client", "system:masters")
        account_key = self.certificates.service_account_key
        self._run("apiserver", [
            BIN / "kube", "apiserver", "--etcd-servers=http://127.0.0.1:2379", f"--secure-port={PORT}", "--bind-address=0.0.0.0",
            f"--advertise-address={network.NODE_IP}", f"--service-cluster-ip-range={network.SERVICE_RANGE}", f"--cert-dir={self.directory}",
            f"--tls-cert-file={cert}", f"--tls-private-key-file={key}", f"--client-ca-file={self.ca}", "--authorization-mode=RBAC",
            f"--service-account-issuer=https://kubernetes.default.svc.{network.DOMAIN}", f"--service-account-signing-key-file={account_key}",
            f"--service-account-key-file={account_key}", f"--kubelet-client-certificate={client_cert}", f"--kubelet-client-key={client_key}",
            f"--kubelet-certificate-authority={self.ca}", "--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true",
            "--endpoint-reconciler-type=none", "--profiling=false"])
        wait_until(lambda: self._answers("apiserver", "/readyz"), lambda: f"the API server is ready: {self.log('apiserver')[-2000:]}", 90)

    def _answers(self, name, where):
        if self._processes[name].poll() is not None:
            raise AssertionError(f"{name} ended: {self.log(name)[-3000:]}")
        try:
            return self.api.client.get(where, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def install_crds(self):
        """Those of the Gateway API, of Istio and ours; returns once all are served."""
        names = []
        for file in [*sorted(CRDS.glob("*/*.yaml")), *sorted((ROOT / "deploy/crds").glob("*.yaml"))]:
            for item in yaml.safe_load_all(file.read_text()):
                if item and item["kind"] == "CustomResourceDefinition":
                    self.api.apply(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{item['metadata']['name']}", item)
                    names.append(item["metadata"]["name"])
        assert names, f"no CRDs in {CRDS}"

        def established():
            there = {c["metadata"]["name"] for c in self.api.items("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
                     if any(x["type"] == "Established" and x["status"] == "True" for x in c.get("status", {}).get("conditions") or [])}
            return there >= set(names)
        wait_until(established, "the CRDs are served", 60)

    def _run(self, name, command):
        with open(self.directory / f"{name}.log", "ab") as log:
            self._processes[name] = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def stop_one(self, name):
        process = self._processes.pop(name, None)
        if process and process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name):
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def resident_megabytes(self, name):
        fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{self._processes[name].pid}/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0]) // 1024

    def stop(self):
        for name in ("controller-manager", "apiserver", "etcd"):
            self.stop_one(name)
