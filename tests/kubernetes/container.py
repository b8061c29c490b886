"""One container: its command, environment and volumes as the pod says them, run in the pod's network namespace with a root file
system of its own."""

import dataclasses
import os
import pathlib
import re
import subprocess
import time

from harness import BINARY, ROOT

SCRIPT = pathlib.Path(__file__).with_name("container.sh")
PILOT_AGENT = pathlib.Path(__file__).with_name("pilot_agent.sh")
VLLM = pathlib.Path(__file__).with_name("vllm.sh")
ENVOY = next(iter(sorted((ROOT / ".deps/venv/lib").glob("python3*/site-packages/envoy/_bin/envoy"))), None)
PATH = "/usr/local/bin:/usr/bin:/bin"
NOBODY = 65532


@dataclasses.dataclass
class Image:
    """What stands in for an image: programs at their places, the entry point, the user."""
    programs: dict
    entrypoint: list
    user: int = NOBODY
    extra: dict = dataclasses.field(default_factory=dict)


def find_image(name):
    """None when the name is no image that the rig has."""
    router = {BINARY: "/usr/local/bin/warmpath"}
    base = name.rsplit("/", 1)[-1].split(":")[0].split("@")[0]
    if base == "warmpath":
        return Image(router, ["/usr/local/bin/warmpath"])
    if base in ("llm-d", "llm-d-cuda", "vllm-openai"):  # the engine: `vllm serve` is the simulator with the same flags
        return Image({**router, VLLM: "/usr/local/bin/vllm"}, ["/bin/sh"], user=0, extra={ROOT / ".deps/tokenizers": "/tokenizers"})
    if base == "proxyv2":
        return Image({ENVOY: "/usr/local/bin/envoy", PILOT_AGENT: "/usr/local/bin/pilot-agent"}, ["/usr/local/bin/pilot-agent"], user=0)
    if base in ("curl", "kubectl", "busybox"):  # tools of helm tests
        return Image({}, ["/bin/sh"], user=NOBODY)
    return None


def expand(text, environment):
    """$(NAME) of the environment; an unknown name stays, $$ is one $."""
    def one(match):
        if match.group(0) == "$$":
            return "$"
        return environment.get(match.group(1), match.group(0))
    return re.sub(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)", one, text)


class Container:
    """A container of a pod; started again, it is the same container with another count."""

    def __init__(self, directory, pod, spec, image, sandbox, volumes, hosts, ca):
        self.directory, self.pod, self.spec, self.image = directory, pod, spec, image
        self.sandbox, self.volumes, self.hosts, self.ca = sandbox, volumes, hosts, ca
        self.name = spec["name"]
        self.log_path = directory / f"{self.name}.log"
        self.previous_path = directory / f"{self.name}.previous.log"
        self.log_path.touch()
        self.process = None
        self.started_at = None
        self.restarts = 0
        self.last_exit = None

    def start(self, environment):
        """`environment`: every variable with its value (see volumes.environment)."""
        environment = {"PATH": PATH, "HOME": "/", "HOSTNAME": self.pod["metadata"]["name"], **environment}
        command = self.spec.get("command") or self.image.entrypoint
        words = [expand(word, environment) for word in [*command, *self.spec.get("args", [])]]
        if self.spec.get("workingDir", "/") != "/":
            words = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', self.spec["workingDir"], *words]
        root = self.directory / f"{self.name}.root"
        root.mkdir(exist_ok=True)
        mounts = self.directory / f"{self.name}.mounts"
        mounts.write_text("".join(f"{source} {target} {how}\n" for source, target, how in self._mounts()))
        identity, mode = self._identity()
        script = ["unshare", "--mount", "sh", str(SCRIPT), str(root), mode, identity, str(mounts), str(self.hosts), str(self.ca), "--", *words]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.sandbox.enter(), *script], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env=environment, cwd="/", start_new_session=True)
        self.started_at = time.time()

    def _mounts(self):
        for program, place in self.image.programs.items():
            yield program, place, "ro"
        for source, place in self.image.extra.items():
            yield source, place, "ro"
        for mount in sorted(self.spec.get("volumeMounts", []), key=lambda m: len(m["mountPath"])):
            source, writable = self.volumes[mount["name"]]
            if mount.get("subPath"):
                source = source / mount["subPath"]
            elif mount.get("subPathExpr"):
                source = source / expand(mount["subPathExpr"], {})
            yield source, mount["mountPath"].rstrip("/"), "rw" if writable and not mount.get("readOnly") else "ro"

    def _identity(self):
        """(words for setpriv, "ro" or "rw")."""
        security = {**self.pod["spec"].get("securityContext", {}), **self.spec.get("securityContext", {})}
        user = security.get("runAsUser", self.image.user)
        if security.get("runAsNonRoot") and user == 0:
            raise RuntimeError(f"container {self.name} has runAsNonRoot and image will run as root")
        words = []
        if os.access("/proc/self/uid_map", os.R_OK) and len(pathlib.Path("/proc/self/uid_map").read_text().split()) == 3 and \
                int(pathlib.Path("/proc/self/uid_map").read_text().split()[2]) > NOBODY:
            words += [f"--reuid={user}", f"--regid={security.get('runAsGroup', user)}", "--clear-groups"]
        if security.get("allowPrivilegeEscalation") is False:
            words.append("--no-new-privs")
        if "ALL" in security.get("capabilities", {}).get("drop", []):
            words += ["--bounding-set=-all", "--inh-caps=-all"]
        return " ".join(words), "ro" if security.get("readOnlyRootFilesystem") else "rw"

    def running(self):
        return self.process is not None and self.process.poll() is None

    def execute(self, command, timeout=20):
        """Runs `command` beside the container, in its namespaces and root."""
        pid = self.process.pid
        enter = ["nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt", f"--root=/proc/{pid}/root", "--wd=/"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=timeout)

    def stop(self, grace):
        """SIGTERM, `grace` seconds, SIGKILL."""
        if not self.running():
            return
        self.process.terminate()
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def restarted(self):
        """Notes the end of the process; the next start counts."""
        self.last_exit = self.process.returncode
        self.restarts += 1
        self.log_path.replace(self.previous_path)
        self.log_path.touch()
