# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Minikube's command line: how it is called, and what its answers mean.

The contract relied on is that of kubernetes/minikube v1.38.1: `cmd/minikube/cmd/{start,status,stop,delete}.go`,
`pkg/minikube/{reason/exitcodes,out/register,config/types,config/profile,cluster/status,localpath}.go`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_run import EndedError, Result, run

# `image ls --format json`, `addons --registries` and the JSON of `profile` are what they are now since v1.34.
MINIMUM_MINIKUBE = (1, 34, 0)
# What the roles apply (server-side apply, `sidecar`-free probes, IngressClass defaults) is tested from here on.
MINIMUM_KUBERNETES = (1, 30)

INSTALL_ADVICE = (
    "Install Minikube (https://minikube.sigs.k8s.io/docs/start/), or give the path of the program in `binary`"
)

# pkg/minikube/driver/driver_{linux,darwin}.go, `supportedDrivers`, and the aliases of driver.go.
DRIVERS = {
    "linux": ("docker", "podman", "kvm2", "qemu2", "virtualbox", "vmware", "none", "ssh"),
    "darwin": ("docker", "podman", "qemu2", "vfkit", "krunkit", "hyperkit", "parallels", "virtualbox", "vmware", "ssh"),
}
DRIVER_ALIASES = {"kvm": "kvm2", "qemu": "qemu2", "native": "none", "generic": "ssh"}
CONTAINER_DRIVERS = ("docker", "podman")

# pkg/minikube/config/profile.go: `ProfileNameValid` (a label of two characters or more, dots between labels).
_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?"
_PROFILE_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_RESERVED_NAMES = ("start", "stop", "status", "delete", "config", "open", "profile", "addons", "cache", "logs")
# pkg/minikube/driver/driver.go, `IndexFromMachineName`: a last part like this is taken for a node's number.
_NODE_LIKE = re.compile(r"(^|-)m[0-9]+$")

# pkg/minikube/reason/exitcodes.go: what an operator meets; the rest is told as the number alone.
EXIT_CODES = {
    10: "program error",
    14: "bad command-line options",
    23: "not enough memory",
    26: "no space left",
    29: "not enough CPUs",
    37: "missing permission on the host",
    52: "driver timeout",
    56: "driver not supported on this machine",
    57: "driver refuses to run as root",
    60: "driver's provider failed",
    63: "driver's provider is not running",
    65: "driver's provider not found",
    69: "driver's provider is not healthy",
    80: "the node failed",
    81: "existing profile has another driver",
    82: "the node timed out",
    83: "the node is not running",
    85: "profile or node not found",
    90: "container runtime failed",
    100: "control plane failed",
    103: "API server is stopped or paused",
    106: "Kubernetes downgrade",
}


@dataclass(frozen=True)
class Event:
    """One CloudEvent line of `start -o json` (pkg/minikube/out/register/log.go). All data values are strings."""

    kind: str
    data: Mapping[str, str]

    @property
    def message(self) -> str:
        return self.data.get("message", "").strip()


def parse_event(line: str) -> Event | None:
    """The event of one line; None for lines that are not one (klog lines, blank lines)."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        document = json.loads(line)
    except ValueError:
        return None
    kind = document.get("type", "") if isinstance(document, dict) else ""
    data = document.get("data") if kind.startswith("io.k8s.sigs.minikube.") else None
    if not isinstance(data, dict):
        return None
    return Event(kind.removeprefix("io.k8s.sigs.minikube."), {str(key): str(value) for key, value in data.items()})


def parse_events(lines: Iterable[str]) -> Iterator[Event]:
    return (event for event in map(parse_event, lines) if event is not None)


def explain_failure(attempted: str, result: Result) -> MlopsError:
    """The error of a call that failed: Minikube's own message and advice if it gave any, else its last lines."""
    # The last words of many failures are a box with the address of Minikube's issue tracker; the cause comes before it.
    events = [event for event in parse_events(result.tail) if "\u2502" not in event.message]
    errors = [event for event in events if event.kind == "error"]
    plain = [line for line in result.tail if parse_event(line) is None and line.strip()]
    plain = plain or [event.message for event in events]
    name = EXIT_CODES.get(result.rc, "")
    code = f"exit code {result.rc}" + (f": {name}" if name else "")
    parts = [f"{attempted} failed ({code})."]
    details: dict[str, Any] = {"rc": result.rc, "cmd": list(result.argv), "output_tail": plain[-30:]}
    if errors:
        error = errors[-1]
        parts.append(error.message.rstrip(".") + ".")
        if error.data.get("advice"):
            parts.append(error.data["advice"])
        details["reason"] = error.data.get("name", "")
    elif plain:
        parts.append("Last lines:\n" + "\n".join(plain[-15:]))
    return MlopsError(" ".join(part for part in parts if part != "."), **details)


def mini_path(home: str | None) -> Path:
    """Where Minikube keeps its files: localpath.go, `MiniPath` (MINIKUBE_HOME may name `.minikube` itself)."""
    base = Path(home or os.environ.get("MINIKUBE_HOME") or "~").expanduser()
    return base if base.name == ".minikube" else base / ".minikube"


def kubeconfig_path(kubeconfig: str | None) -> str:
    """The kubeconfig that Minikube writes: the first of KUBECONFIG's list (pkg/minikube/kubeconfig, `PathFromEnv`)."""
    if kubeconfig:
        return os.path.expanduser(kubeconfig)
    first = next((part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part), "")
    return first or os.path.expanduser("~/.kube/config")


def parse_version(text: str) -> tuple[int, ...] | None:
    """`v1.34.4` or `1.34` as numbers; None for words like `stable`."""
    match = re.match(r"^v?(\d+)\.(\d+)(?:\.(\d+))?", text.strip().lower())
    return tuple(int(number) for number in match.groups() if number is not None) if match else None


def check_profile_name(profile: str, *, new: bool) -> None:
    """Refuse names that Minikube refuses, and, for a profile yet to be made, those that it stumbles over."""
    if not _PROFILE_NAME.fullmatch(profile) or len(profile) < 2:
        raise MlopsError(
            f"'{profile}' cannot be the name of a Minikube profile: use two or more letters, digits and dashes,"
            " beginning and ending with a letter or digit."
        )
    if profile.lower() in _RESERVED_NAMES:
        raise MlopsError(f"'{profile}' is one of Minikube's own words; choose another profile name.")
    if new and _NODE_LIKE.search(profile):
        raise MlopsError(
            f"Profile name '{profile}' ends like the name of a node (m and a number), which Minikube takes for a"
            " node's number when it gives out addresses; choose another profile name."
        )


def check_driver(driver: str) -> str:
    """The driver's own name for a name or alias; refuses one that this platform does not have."""
    known = DRIVERS.get(sys.platform, DRIVERS["linux"])
    name = DRIVER_ALIASES.get(driver.lower(), driver.lower())
    if name not in known:
        raise MlopsError(f"Minikube has no driver '{driver}' on this platform. Supported drivers: {', '.join(known)}.")
    return name


@dataclass(frozen=True)
class NodeStatus:
    """One record of `status -o json` (pkg/minikube/cluster/status.go)."""

    name: str
    host: str
    kubelet: str
    apiserver: str
    kubeconfig: str
    worker: bool

    @property
    def running(self) -> bool:
        return (
            self.host == "Running"
            and self.kubelet == "Running"
            and self.apiserver in ("Running", "Irrelevant")
            and self.kubeconfig in ("Configured", "Irrelevant")
        )

    def record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "host": self.host,
            "kubelet": self.kubelet,
            "apiserver": self.apiserver,
            "kubeconfig": self.kubeconfig,
        }


def parse_status(stdout: str) -> tuple[NodeStatus, ...]:
    """The nodes of `status -o json`: one object, an array, `null` (no machine), or events (no profile)."""
    text = stdout.strip()
    try:
        document = json.loads(text)
    except ValueError:
        return ()
    records = document if isinstance(document, list) else [document]
    return tuple(
        NodeStatus(
            record["Name"],
            record["Host"],
            record["Kubelet"],
            record.get("APIServer", ""),
            record.get("Kubeconfig", ""),
            bool(record.get("Worker")),
        )
        for record in records
        if isinstance(record, dict) and "Host" in record
    )


@dataclass(frozen=True)
class Node:
    """A node as the profile's configuration names it."""

    name: str
    machine: str
    ip: str
    control_plane: bool


@dataclass(frozen=True)
class Profile:
    """`profiles/<name>/config.json`: the ClusterConfig of pkg/minikube/config/types.go."""

    name: str
    config: Mapping[str, Any]

    @property
    def driver(self) -> str:
        return str(self.config.get("Driver") or "")

    @property
    def kubernetes(self) -> Mapping[str, Any]:
        return self.config.get("KubernetesConfig") or {}

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Names as `kubectl get nodes` and Minikube's machines have them (config/profile.go, `MachineName`)."""
        records = self.config.get("Nodes") or []
        nodes = []
        for record in records:
            short = record.get("Name") or ""
            machine = self.name if not short or len(records) == 1 else f"{self.name}-{short}"
            nodes.append(Node(machine, machine, record.get("IP") or "", bool(record.get("ControlPlane"))))
        return tuple(nodes)

    @property
    def valid(self) -> bool:
        """config/profile.go, `IsValid`: a start that was interrupted early leaves these fields empty."""
        return bool(self.driver) and all(node.get("KubernetesVersion") for node in self.config.get("Nodes") or [{}])


def load_profile(minikube_path: Path, name: str) -> Profile | None:
    """The profile from its file; None where there is none."""
    path = minikube_path / "profiles" / name / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise MlopsError(
            f"Profile '{name}' cannot be read: {error}. Run as the user who owns {minikube_path}."
        ) from error
    except ValueError:
        config = {}  # Half-written by an interrupted start: there, but not valid.
    return Profile(name, config if isinstance(config, dict) else {})


@dataclass(frozen=True)
class Snapshot:
    """What there is: the program's version, the profile's configuration and the state of its nodes."""

    version: str | None
    profile: Profile | None
    statuses: tuple[NodeStatus, ...] = ()

    @property
    def exists(self) -> bool:
        return self.profile is not None

    @property
    def running(self) -> bool:
        expected = len(self.profile.nodes) if self.profile else 0
        return 0 < expected == len(self.statuses) and all(status.running for status in self.statuses)

    @property
    def state(self) -> str:
        """`absent`, `incomplete` (no machine behind the profile), `stopped`, `paused`, `running` or `degraded`."""
        if self.profile is None:
            return "absent"
        if not self.profile.valid or not self.statuses:
            return "incomplete"
        if self.running:
            return "running"
        hosts = {status.host for status in self.statuses}
        if hosts == {"Stopped"}:
            return "stopped"
        if hosts == {"Running"} and any(status.apiserver == "Paused" for status in self.statuses):
            return "paused"
        return "degraded"


@dataclass
class Minikube:
    """Calls of the `minikube` program for one profile.

    `home` and `kubeconfig` default to what Minikube itself would use. `timeout` is in seconds, for one call.
    A call is ended when the work is not `wanted` any more.
    """

    profile: str = "minikube"
    binary: str = "minikube"
    home: str | None = None
    kubeconfig: str | None = None
    timeout: float = 600
    environment: Mapping[str, str] = field(default_factory=dict)
    wanted: Callable[[], bool] = lambda: True

    @property
    def path(self) -> Path:
        return mini_path(self.home)

    def locate(self) -> str | None:
        """The program's path, or None where it is not installed."""
        return shutil.which(os.path.expanduser(self.binary))

    def require(self) -> str:
        program = self.locate()
        if program is None:
            raise MlopsError(f"The program '{self.binary}' was not found. {INSTALL_ADVICE}.")
        return program

    def with_environment(self, environment: Mapping[str, str]) -> Minikube:
        """The same client with more environment variables."""
        return replace(self, environment={**self.environment, **environment})

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "MINIKUBE_HOME": str(self.path),
            "KUBECONFIG": kubeconfig_path(self.kubeconfig),
            "MINIKUBE_IN_STYLE": "false",
            "MINIKUBE_WANTUPDATENOTIFICATION": "false",  # No look-up of a newer release on the way.
            "LC_ALL": "C.UTF-8",  # Messages in English, whatever the user's locale.
            **self.environment,
        }

    def run(
        self, *arguments: str, timeout: float | None = None, on_line: Callable[[str], None] | None = None
    ) -> Result:
        """Run `minikube -p <profile> <arguments>` to its end; never raises for an exit code.

        Raises MlopsError when the program is missing or takes longer than `timeout` seconds.
        """
        argv = (self.require(), "-p", self.profile, *arguments)
        try:
            return run(
                argv,
                environment=self._environment(),
                timeout=timeout or self.timeout,
                on_line=on_line,
                wanted=self.wanted,
            )
        except EndedError as ended:
            command = " ".join(("minikube", *arguments[:2]))
            raise MlopsError(
                f"`{command}` for profile '{self.profile}' {ended}. Last lines:\n"
                + "\n".join(_readable(ended.tail[-15:])),
                cmd=list(argv),
                output_tail=list(ended.tail[-30:]),
            ) from ended

    def version(self) -> str | None:
        """`v1.38.1`; None where the program is missing."""
        if self.locate() is None:
            return None
        result = self.run("version", "-o", "json", timeout=min(self.timeout, 60))
        try:
            return str(json.loads(result.stdout)["minikubeVersion"])
        except (ValueError, KeyError, TypeError):
            raise explain_failure(f"Asking '{self.binary}' for its version", result) from None

    def status(self) -> tuple[NodeStatus, ...]:
        """The nodes' state. The exit code carries the same in bits, so it is not looked at."""
        return parse_status(self.run("status", "-o", "json", timeout=min(self.timeout, 120)).stdout)

    def docker_environment(self) -> dict[str, str]:
        """The variables by which a Docker client reaches the node's engine (cmd/minikube/cmd/docker-env.go).

        Raises MlopsError where there is none: another container runtime, or a node that does not run.
        """
        result = self.run("docker-env", "--shell", "none", "--output", "json", timeout=min(self.timeout, 60))
        try:
            found = json.loads(result.stdout)
            return {str(name): str(value) for name, value in found.items() if name.startswith("DOCKER_") and value}
        except (ValueError, AttributeError):
            raise explain_failure(f"Asking for the Docker engine of profile '{self.profile}'", result) from None

    def snapshot(self) -> Snapshot:
        """What there is now. Version and status are asked for side by side: a status takes 0.3 s."""
        check_profile_name(self.profile, new=False)
        profile = load_profile(self.path, self.profile)
        if self.locate() is None:
            return Snapshot(None, profile)
        answers: dict[str, Any] = {}
        failures: list[BaseException] = []

        def ask(name: str, question: Callable[[], Any]) -> None:
            try:
                answers[name] = question()
            except MlopsError as error:
                failures.append(error)

        questions: dict[str, Callable[[], Any]] = {"version": self.version}
        if profile is not None and profile.valid:
            questions["status"] = self.status
        threads = [threading.Thread(target=ask, args=item, daemon=True) for item in questions.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return Snapshot(answers["version"], profile, answers.get("status", ()))


def _readable(lines: Iterable[str]) -> list[str]:
    """Lines for people: an event's message instead of its JSON."""
    return [event.message if (event := parse_event(line)) else line for line in lines]


def check_minikube_version(version: str) -> None:
    """Refuse a Minikube that is older than what this collection is written for."""
    numbers = parse_version(version)
    if numbers is not None and numbers < MINIMUM_MINIKUBE:
        oldest = ".".join(map(str, MINIMUM_MINIKUBE))
        raise MlopsError(f"Minikube {version} is too old: v{oldest} or newer is needed. {INSTALL_ADVICE}.")


def check_kubernetes_version(version: str) -> None:
    """Refuse a Kubernetes that is older than what this collection is written for."""
    numbers = parse_version(version)
    if numbers is not None and numbers[:2] < MINIMUM_KUBERNETES:
        oldest = ".".join(map(str, MINIMUM_KUBERNETES))
        raise MlopsError(f"Kubernetes {version} is too old: {oldest} or newer is needed; set `kubernetes_version`.")


def argument_spec(*, timeout: int) -> dict[str, dict[str, Any]]:
    """The options that all Minikube modules share; documented in doc_fragments/minikube.py."""
    return {
        "profile": {"type": "str", "default": "minikube"},
        "binary": {"type": "str", "default": "minikube"},
        "home": {"type": "path"},
        "kubeconfig": {"type": "path"},
        "timeout": {"type": "int", "default": timeout},
    }


def from_parameters(parameters: Mapping[str, Any]) -> Minikube:
    """The client that a module's parameters describe."""
    return Minikube(
        profile=parameters["profile"],
        binary=parameters["binary"],
        home=parameters["home"],
        kubeconfig=parameters["kubeconfig"],
        timeout=parameters["timeout"],
        wanted=Progress(parameters.get("progress_file")).watched,
    )


class Progress:
    """Lines for people, appended to a file that the action plugin shows while the module works."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._started = time.monotonic()

    def watched(self) -> bool:
        """Whether the task goes on: Ansible removes the file's folder when the playbook is interrupted.

        It does not end the module; its parent is a shell that outlives the task.
        """
        return not self._path or os.path.exists(self._path)

    def __call__(self, line: str) -> None:
        if self._path:
            # Nobody may look any more; that is no reason to stop the work.
            with contextlib.suppress(OSError), open(self._path, "a", encoding="utf-8") as stream:
                stream.write(f"{line} ({time.monotonic() - self._started:.0f} s)\n")
