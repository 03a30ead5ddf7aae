"""How the tests reach the sandbox cluster and run playbooks against it; conftest.py hands these out as fixtures."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
BUILD = REPOSITORY / "build"
HOSTS = Path("/etc/hosts")
HOSTS_MARK = "# mlops.mlflow tests"
LABELS = {"app.kubernetes.io/part-of": "mlflow", "app.kubernetes.io/managed-by": "mlops.mlflow"}


@dataclass(frozen=True)
class Sandbox:
    """The cluster that `make sandbox` brings up, with the commands and paths that belong to it."""

    cache: Path
    profile: str = "mlflow-sandbox"
    inventory: Path = REPOSITORY / "inventory/sandbox"

    @property
    def kubeconfig(self) -> Path:
        return self.cache / "kubeconfig"

    @property
    def context(self) -> str:
        return self.profile

    @property
    def environment(self) -> dict[str, str]:
        """For every command that the tests start.

        Debian's docker (/usr/bin) speaks to the sandbox's engine; some machines have another client in /usr/local/bin.
        What the MLflow client of the tests left in the environment for its children (`set_experiment`) is not theirs.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        path = [str(REPOSITORY / ".venv/bin"), str(self.cache / "bin"), "/usr/bin", os.environ["PATH"]]
        return inherited | {
            "PATH": ":".join(path),
            "MLOPS_MLFLOW_CACHE": str(self.cache),
            "MINIKUBE_HOME": str(self.cache / "minikube"),
            "KUBECONFIG": str(self.kubeconfig),
            "MINIKUBE_IN_STYLE": "false",
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_FORCE_COLOR": "false",
            "ANSIBLE_STDOUT_CALLBACK": "default",
        }

    def run(self, *command: str, stdin: str = "", timeout: float = 120, check: bool = True) -> str:
        """The standard output of `command`; with `check`, a failure shows all that the command said."""
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=REPOSITORY,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        said = f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert not check or done.returncode == 0, said
        return done.stdout

    def minikube(self, *arguments: str, timeout: float = 300, check: bool = True) -> str:
        return self.run("minikube", "-p", self.profile, *arguments, timeout=timeout, check=check)

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        return self.run("kubectl", "--context", self.context, *arguments, stdin=stdin, check=check)

    def objects(self, kinds: str, *arguments: str) -> list[dict[str, Any]]:
        """The objects of the comma-separated `kinds`; `arguments` select (`-n NAMESPACE`, `-l LABELS`)."""
        listing = self.kubectl("get", kinds, "-o", "json", "--ignore-not-found", *arguments)
        return list(json.loads(listing or '{"items": []}')["items"])

    def node_directories(self) -> set[str]:
        """What is in the node's /data."""
        return set(self.minikube("ssh", "--", "sudo", "ls", "-1", "/data").split())

    @property
    def node_address(self) -> str:
        (node,) = self.objects("nodes")
        return next(str(a["address"]) for a in node["status"]["addresses"] if a["type"] == "InternalIP")


@dataclass(frozen=True)
class Play:
    """What one ansible-playbook did, read from its output."""

    command: str
    rc: int
    output: str
    log: Path
    seconds: float

    @cached_property
    def recap(self) -> dict[str, dict[str, int]]:
        """For each host: how many tasks were ok, changed, unreachable, failed, ..."""
        _, _, text = self.output.partition("\nPLAY RECAP ")
        counts = re.findall(r"^(\S+)\s+: (ok=.*)$", text, re.MULTILINE)
        return {host: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)} for host, line in counts}

    def count(self, what: str) -> int:
        """The sum over all hosts of `changed`, `failed`, ..."""
        return sum(host[what] for host in self.recap.values())

    @cached_property
    def changed_tasks(self) -> list[str]:
        """The names of the tasks that reported a change, in order, without the role's name."""
        task, found = "", []
        for line in self.output.splitlines():
            if match := re.match(r"TASK \[(?:[\w.]+ : )?(.*)\] \*+$", line):
                task = match[1]
            elif line.startswith("changed: ["):
                found.append(task)
        return found

    @property
    def tail(self) -> str:
        last = "\n".join(self.output.splitlines()[-60:])
        return f"{self.command}: exit {self.rc} after {self.seconds:.0f} s; all of it is in {self.log}\n{last}"


@dataclass
class PlaybookRunner:
    """Runs playbooks against the sandbox; calling it is running one."""

    sandbox: Sandbox
    logs: Path
    count: int = 0

    def __call__(
        self,
        playbook: str = "site.yml",
        variables: Mapping[str, Any] | None = None,
        *options: str,
        check: bool = False,
        rc: int | None = 0,
        timeout: float = 900,
    ) -> Play:
        """Run `playbook` with extra `variables` (and as `--check --diff`) and expect exit code `rc` (None: any)."""
        self.count += 1
        log = self.logs / f"{self.count:02}-{Path(playbook).stem}{'-check' if check else ''}.log"
        command = ["ansible-playbook", "-i", str(self.sandbox.inventory), playbook, *options]
        command += ["-e", json.dumps(variables)] if variables else []
        command += ["--check", "--diff"] if check else []
        begin = time.monotonic()
        with log.open("w+") as stream:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=self.sandbox.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                print(f"after {timeout} s {' '.join(command)} was still running, and was ended", file=stream)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            stream.seek(0)
            output = stream.read()
        play = Play(" ".join(command), process.returncode, output, log, time.monotonic() - begin)
        assert rc is None or play.rc == rc, play.tail
        return play


@dataclass(frozen=True)
class Deployment:
    """One deployed instance, at the addresses that the cluster gives for it."""

    namespace: str
    service: str
    ingress: str
    host: str
    address: str
    variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, sandbox: Sandbox, namespace: str, variables: Mapping[str, Any] | None = None) -> Deployment:
        address = sandbox.node_address
        component = "app.kubernetes.io/component"
        (service,) = sandbox.objects("service", "-n", namespace, "-l", f"{component}=tracking-server")
        (ingress,) = sandbox.objects("ingress", "-n", namespace, "-l", f"{component}=ingress")
        host = ingress["spec"]["rules"][0]["host"]
        scheme = "https" if "tls" in ingress["spec"] else "http"
        node_port = service["spec"]["ports"][0]["nodePort"]
        return cls(
            namespace, f"http://{address}:{node_port}", f"{scheme}://{host}", host, address, dict(variables or {})
        )


@contextmanager
def resolvable(host: str, address: str) -> Iterator[None]:
    """Make every program on this machine find `host` at `address`, as DNS would; a killed run's line goes as well."""
    mark = f"\t{host} {HOSTS_MARK}\n"

    def others() -> str:
        return "".join(line for line in HOSTS.read_text().splitlines(True) if not line.endswith(mark))

    HOSTS.write_text(f"{others()}{address}{mark}")
    try:
        yield
    finally:
        HOSTS.write_text(others())
