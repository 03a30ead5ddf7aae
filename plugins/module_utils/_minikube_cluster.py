# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Minikube profile in the state that is asked for.

Minikube only warns about flags that an existing profile cannot take any more, and ignores them
(`updateExistingConfigFromFlags` of cmd/minikube/cmd/start_flags.go, v1.38.1). So wanted and actual settings are
compared here before anything is called; what cannot change is an error that names every such setting.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import (
    CONTAINER_DRIVERS,
    Event,
    Minikube,
    Profile,
    Snapshot,
    check_driver,
    check_kubernetes_version,
    check_minikube_version,
    check_profile_name,
    explain_failure,
    parse_event,
    parse_version,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_nodes import (
    Inspect,
    Probe,
    UnreachableError,
    endpoint,
)

CONTAINER_RUNTIMES = {"docker": "docker", "containerd": "containerd", "cri-o": "crio", "crio": "crio"}
_NO_LIMIT = "no-limit"
_NOT_COMPARABLE = ("max", "stable", "latest", "newest")  # Depend on the machine or the program, not on the profile.
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp])?(?:i?b)?")
_SIZE_MIB = {"": 1 / 1024**2, "k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0**2, "p": 1024.0**3}

# Flags of `start` and where the profile keeps their value. Fixed ones are given to the node when it is made and
# ignored afterwards; the others take effect by another start. Flags in neither only matter while starting.
_FIXED_FLAGS: Mapping[str, str] = {
    "static-ip": "StaticIP",
    "subnet": "Subnet",
    "network": "Network",
    "listen-address": "ListenAddress",
    "ports": "ExposedPorts",
    "extra-disks": "ExtraDisks",
    "docker-env": "DockerEnv",
    "docker-opt": "DockerOpt",
    "insecure-registry": "InsecureRegistry",
    "registry-mirror": "RegistryMirror",
    "service-cluster-ip-range": "KubernetesConfig.ServiceCIDR",
    "dns-domain": "KubernetesConfig.DNSDomain",
}
_CHANGEABLE_FLAGS: Mapping[str, str] = {
    "extra-config": "KubernetesConfig.ExtraOptions",
    "feature-gates": "KubernetesConfig.FeatureGates",
    "apiserver-name": "KubernetesConfig.APIServerName",
    "apiserver-names": "KubernetesConfig.APIServerNames",
    "apiserver-ips": "KubernetesConfig.APIServerIPs",
    "cni": "KubernetesConfig.CNI",
    "namespace": "KubernetesConfig.Namespace",
}
# Options of the module; giving them as start options too would make two truths.
_OWN_FLAGS = (
    "driver",
    "vm-driver",
    "kubernetes-version",
    "container-runtime",
    "cpus",
    "memory",
    "disk-size",
    "nodes",
    "wait",
    "output",
    "profile",
    "interactive",
    "dry-run",
    "download-only",
    "delete-on-failure",
)
_FLAG_NAME = re.compile(r"[a-z][a-z0-9-]*")


def size_in_mib(value: str | int) -> int:
    """A memory or disk size as Minikube reads it (pkg/util/utils.go, `CalculateSizeInMB`).

    A bare number is MiB, units are binary. Raises MlopsError for anything else.
    """
    text = str(value).strip().lower()
    match = _SIZE.fullmatch(text)
    if match is None:
        raise MlopsError(f"'{value}' is not a size: give MiB as a number (4096) or a number with a unit (4g, 4096mb).")
    number, unit = match.groups()
    if unit is None and text == number:
        unit = "m"
    return int(float(number) * _SIZE_MIB[unit or ""])


@dataclass(frozen=True)
class Wanted:
    """The settings that a playbook gives; None for what it leaves to Minikube or the existing profile."""

    driver: str | None = None
    kubernetes_version: str | None = None
    container_runtime: str | None = None
    cpus: str | None = None
    memory: str | None = None
    disk_size: str | None = None
    nodes: int | None = None
    wait: Sequence[str] = ("all",)
    start_options: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse values that Minikube refuses, or reads as something else, before anything is called."""
        if self.driver is not None:
            check_driver(self.driver)
        if self.kubernetes_version is not None and self.kubernetes_version.lower() not in _NOT_COMPARABLE:
            if parse_version(self.kubernetes_version) is None:
                raise MlopsError(
                    f"'{self.kubernetes_version}' is not a Kubernetes version: give v1.34.4, 1.34, stable or latest."
                )
            check_kubernetes_version(self.kubernetes_version)
        if self.container_runtime is not None and self.container_runtime not in CONTAINER_RUNTIMES:
            raise MlopsError(
                f"Minikube has no container runtime '{self.container_runtime}': use docker, containerd or cri-o."
            )
        if self.cpus is not None and self.cpus not in ("max", _NO_LIMIT) and not re.fullmatch(r"[1-9]\d*", self.cpus):
            raise MlopsError(f"'{self.cpus}' is not a number of CPUs: give a whole number, max or no-limit.")
        for size in (self.memory, self.disk_size):
            if size is not None and size not in ("max", _NO_LIMIT):
                size_in_mib(size)
        if self.nodes is not None and self.nodes < 1:
            raise MlopsError(f"A cluster needs at least one node, not {self.nodes}.")
        for flag in self.start_options:
            if not _FLAG_NAME.fullmatch(flag):
                raise MlopsError(f"'{flag}' is not a flag of `minikube start`: give its long name without dashes.")
            if flag in _OWN_FLAGS:
                raise MlopsError(f"`start_options` must not have '{flag}': the module sets it or has an option for it.")

    @property
    def given_options(self) -> dict[str, Any]:
        """Start options without those that a variable left empty."""
        return {flag: value for flag, value in self.start_options.items() if value is not None}

    def arguments(self) -> list[str]:
        """The flags of `minikube start`; every one as `--name=value`, so that no value is taken for a flag."""
        named = {
            "driver": self.driver,
            "kubernetes-version": self.kubernetes_version,
            "container-runtime": self.container_runtime,
            "cpus": self.cpus,
            "memory": self.memory,
            "disk-size": self.disk_size,
            "nodes": self.nodes,
        }
        arguments = [f"--{flag}={value}" for flag, value in named.items() if value is not None]
        for flag, value in self.given_options.items():
            arguments += [f"--{flag}={_text(item)}" for item in (value if isinstance(value, list) else [value])]
        if self.wait:
            arguments.append(f"--wait={','.join(self.wait)}")
        return arguments


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass
class Comparison:
    """Where a profile is not as wanted: `fixed` cannot change, `changeable` takes another start."""

    fixed: Difference = field(default_factory=Difference)
    changeable: Difference = field(default_factory=Difference)


def compare(profile: Profile, wanted: Wanted) -> Comparison:
    """Wanted settings against the profile's configuration. Settings that are not given agree with anything."""
    found = Comparison()
    if wanted.driver is not None:
        found.fixed.compare("driver", profile.driver, check_driver(wanted.driver))
    if wanted.container_runtime is not None:
        actual = str(profile.kubernetes.get("ContainerRuntime") or "")
        if CONTAINER_RUNTIMES.get(actual, actual) != CONTAINER_RUNTIMES[wanted.container_runtime]:
            found.fixed.compare("container_runtime", actual, wanted.container_runtime)
    limits = (
        ("cpus", wanted.cpus, "CPUs", int),
        ("memory", wanted.memory, "Memory", size_in_mib),
        ("disk_size", wanted.disk_size, "DiskSize", size_in_mib),
    )
    for name, value, key, number in limits:
        if value is not None and value not in _NOT_COMPARABLE:
            expected = 0 if value == _NO_LIMIT else number(value)  # pkg: no limit is kept as 0
            found.fixed.compare(name, int(profile.config.get(key) or 0), expected)
    if wanted.nodes is not None:
        found.fixed.compare("nodes", len(profile.config.get("Nodes") or []), wanted.nodes)
    _compare_kubernetes(found, str(profile.kubernetes.get("KubernetesVersion") or ""), wanted.kubernetes_version)
    for flags, difference in ((_FIXED_FLAGS, found.fixed), (_CHANGEABLE_FLAGS, found.changeable)):
        for flag in sorted(flags.keys() & wanted.given_options.keys()):
            _compare_flag(difference, flag, _lookup(profile.config, flags[flag]), wanted.given_options[flag])
    return found


def _compare_kubernetes(found: Comparison, actual: str, wanted: str | None) -> None:
    """An upgrade is a change; a downgrade is what Minikube refuses (exit code 106)."""
    numbers = parse_version(wanted) if wanted is not None else None
    current = parse_version(actual)
    if wanted is None or numbers is None or current is None or current[: len(numbers)] == numbers:
        return
    downgrade = numbers < current
    (found.fixed if downgrade else found.changeable).compare("kubernetes_version", actual, wanted)


def _compare_flag(difference: Difference, flag: str, actual: Any, wanted: Any) -> None:
    """A list agrees when all its items are there: Minikube adds some of its own."""
    if isinstance(actual, list) or isinstance(wanted, list):
        items = [_option_text(item) for item in (actual or [])]
        given = wanted if isinstance(wanted, list) else str(wanted).split(",")
        missing = [_text(item) for item in given if _text(item) not in items]
        if missing:
            difference.compare(flag, items, [*items, *missing])
    else:
        difference.compare(flag, _text(actual if actual is not None else ""), _text(wanted))


def _option_text(item: Any) -> str:
    """An entry of KubernetesConfig.ExtraOptions as it is given on the command line; other entries as they are."""
    if isinstance(item, Mapping) and "Component" in item:
        return f"{item['Component']}.{item.get('Key')}={item.get('Value')}"
    return _text(item)


def _lookup(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def refuse_fixed(profile: Profile, difference: Difference) -> None:
    """The error that names everything that would have to be changed and cannot."""
    if not difference:
        return
    units = {"memory": " MiB", "disk_size": " MiB"}
    settings = "; ".join(
        f"{name} is {difference.before[name]}{units.get(name, '')}, wanted {difference.after[name]}"
        f"{units.get(name, '')}"
        for name in difference.after
    )
    raise MlopsError(
        f"Profile '{profile.name}' exists with settings that cannot change: {settings}."
        " Nothing was changed. Ask for the settings that it has, or delete it with its data (state: absent) and"
        " start anew, or use another profile name.",
        immutable={"before": difference.before, "after": difference.after},
    )


@dataclass
class Steps:
    """Follows the events of a start: the steps for the result, lines for people, warnings that matter.

    Error events are left to explain_failure(): with --force, Minikube reports some and goes on.
    """

    show: Callable[[str], None]
    steps: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _progress: dict[str, int] = field(default_factory=dict)

    def __call__(self, line: str) -> None:
        event = parse_event(line)
        if event is None:
            return
        if event.kind == "step":
            self._step(event)
        elif event.kind == "download":
            self.show(f"Downloading {event.data.get('artifact', '')}")
        elif event.kind == "download.progress":
            self._download(event)
        elif event.kind == "warning":
            self.warnings.append(event.message)

    def _step(self, event: Event) -> None:
        number, total = event.data.get("currentstep", ""), event.data.get("totalsteps", "")
        self.steps.append({"name": event.data.get("name", ""), "message": event.message})
        self.show(f"[{number}/{total}] {event.message}" if number else event.message)

    def _download(self, event: Event) -> None:
        """Every tenth of a download, where Minikube reports several a second."""
        artifact = event.data.get("artifact", "")
        try:
            tenth = int(float(event.data.get("progress", "0")) * 10)
        except ValueError:
            return
        if tenth > self._progress.get(artifact, 0):
            self._progress[artifact] = tenth
            self.show(f"Downloading {artifact}: {tenth * 10} %")


def describe(
    minikube: Minikube,
    snapshot: Snapshot,
    inspect: Inspect | None = None,
    probe: Probe | None = None,
) -> dict[str, Any]:
    """The facts that minikube_info and minikube_cluster return."""
    profile = snapshot.profile
    known = profile is not None and profile.valid
    nodes: list[dict[str, Any]] = []
    if profile is not None and profile.valid:
        for node in profile.nodes:
            ssh = None  # A stopped node has no address to connect to.
            with contextlib.suppress(UnreachableError):
                found = endpoint(minikube.path, profile, node, inspect, probe)
                ssh = None if found.local else found.record()
            nodes.append({"name": node.name, "ip": node.ip, "control_plane": node.control_plane, "ssh": ssh})
    config = profile.config if profile is not None else {}
    return {
        "installed": snapshot.version is not None,
        "version": snapshot.version,
        "exists": snapshot.exists,
        "state": snapshot.state,
        "running": snapshot.running,
        "status": [status.record() for status in snapshot.statuses],
        "profile": minikube.profile,
        "context": minikube.profile if snapshot.exists else None,
        "driver": profile.driver if profile is not None and known else None,
        "container_runtime": profile.kubernetes.get("ContainerRuntime") if profile is not None and known else None,
        "kubernetes_version": profile.kubernetes.get("KubernetesVersion") if profile is not None and known else None,
        "nodes": nodes,
        "config": {
            "cpus": config.get("CPUs"),
            "memory": config.get("Memory"),
            "disk_size": config.get("DiskSize"),
            "addons": sorted(name for name, on in (config.get("Addons") or {}).items() if on),
            "cni": (config.get("KubernetesConfig") or {}).get("CNI"),
            "base_image": config.get("KicBaseImage") if config.get("Driver") in CONTAINER_DRIVERS else None,
        }
        if known
        else {},
    }


@dataclass
class Outcome:
    """What ensure() did or, in check mode, would do."""

    snapshot: Snapshot
    difference: Difference = field(default_factory=Difference)
    actions: list[str] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def ensure(minikube: Minikube, state: str, wanted: Wanted, *, check_mode: bool, show: Callable[[str], None]) -> Outcome:
    """Bring the profile to `state`. Raises MlopsError before any change for everything that can be known before."""
    check_profile_name(minikube.profile, new=False)
    wanted.check()
    snapshot = minikube.snapshot()
    if snapshot.version is None and not (check_mode or (state in ("absent", "stopped") and not snapshot.exists)):
        minikube.require()
    if snapshot.version is not None:
        check_minikube_version(snapshot.version)
    outcome = Outcome(snapshot)
    change = _Change(minikube, outcome, check_mode, show)
    if state == "started":
        change.start(wanted)
    else:
        {"stopped": change.stop, "paused": change.pause, "absent": change.delete}[state]()
    return outcome


_SETTINGS = ("driver", "kubernetes_version", "container_runtime", "cpus", "memory", "disk_size", "nodes")


@dataclass
class _Change:
    """The ways from one state to another. Each notes the difference first and, in check mode, stops there."""

    minikube: Minikube
    outcome: Outcome
    check_mode: bool
    show: Callable[[str], None]

    @property
    def _title(self) -> str:
        return f"profile '{self.minikube.profile}'"

    def start(self, wanted: Wanted) -> None:
        snapshot, difference = self.outcome.snapshot, self.outcome.difference
        profile = snapshot.profile
        found = Comparison()
        if profile is None:
            check_profile_name(self.minikube.profile, new=True)
        elif profile.valid:
            found = compare(profile, wanted)
            refuse_fixed(profile, found.fixed)
            if wanted.kubernetes_version is None:
                check_kubernetes_version(str(profile.kubernetes.get("KubernetesVersion") or ""))
        unfinished = self._unfinished()
        difference.compare("state", snapshot.state, "running")
        difference.before.update(found.changeable.before)
        difference.after.update(found.changeable.after)
        if profile is None or not profile.valid:
            settings = {name: getattr(wanted, name) for name in _SETTINGS}
            difference.after.update({name: value for name, value in settings.items() if value is not None})
        if not difference or self.check_mode:
            return
        if snapshot.state == "paused":
            self._call("unpause", "-A")
        if found.changeable or not self.outcome.snapshot.running:
            if unfinished:
                self._call("delete")
            follow = Steps(self.show)
            self._call("start", "--output=json", "--interactive=false", *wanted.arguments(), follow=follow)
            self.outcome.steps = follow.steps
            self.outcome.warnings = [warning for warning in follow.warnings if "addon" in warning.lower()]
        if not self.outcome.snapshot.running and _expects_to_run(wanted):
            states = "; ".join(
                f"{status.name}: host {status.host}, kubelet {status.kubelet}, API server {status.apiserver},"
                f" kubeconfig {status.kubeconfig}"
                for status in self.outcome.snapshot.statuses
            )
            raise MlopsError(
                f"`minikube start` for {self._title} ended without an error, but the cluster does not run:"
                f" {states or 'no node is known'}. Look at `minikube logs -p {self.minikube.profile}`, then run this"
                " again."
            )

    def stop(self) -> None:
        if self.outcome.snapshot.state in ("absent", "incomplete", "stopped"):
            return
        self.outcome.difference.compare("state", self.outcome.snapshot.state, "stopped")
        if not self.check_mode:
            self._call("stop")
            self._expect("stop", "stopped")

    def pause(self) -> None:
        state = self.outcome.snapshot.state
        if state == "paused":
            return
        if state not in ("running", "degraded"):
            raise MlopsError(
                f"Cannot pause {self._title}, which is {state}: only a running cluster can be paused; start it first"
                " (state: started)."
            )
        self.outcome.difference.compare("state", state, "paused")
        if not self.check_mode:
            self._call("pause", "-A")
            self._expect("pause", "paused")

    def delete(self) -> None:
        snapshot = self.outcome.snapshot
        if not snapshot.exists and not self._remains():
            return
        self.outcome.difference.compare("state", snapshot.state if snapshot.exists else "incomplete", "absent")
        if self.check_mode:
            return
        self._call("delete")
        if remains := self._remains():
            raise MlopsError(
                f"`minikube delete` for {self._title} ended without an error, but left {', '.join(remains)}:"
                " see whose the files are, remove them and run this again."
            )

    def _remains(self) -> list[str]:
        """Folders that a deleted profile must not leave (profiles/ and machines/ of MINIKUBE_HOME)."""
        root, name = self.minikube.path, self.minikube.profile
        return [str(path) for path in (root / "profiles" / name, root / "machines" / name) if path.exists()]

    def _expect(self, command: str, state: str) -> None:
        if self.outcome.snapshot.state != state:
            raise MlopsError(
                f"`minikube {command}` for {self._title} ended without an error, but the cluster is"
                f" {self.outcome.snapshot.state}. Look at `minikube status -p {self.minikube.profile}`."
            )

    def _unfinished(self) -> bool:
        """Whether there is only what a start left that was killed before the node had an address.

        Every later start fails on that. Certificates are made after the address is noted (pkg/minikube/node/start.go):
        without them there was never a cluster, so nothing is lost by deleting it. With them, deleting is not ours to
        decide: raises MlopsError for a damaged profile of a cluster.
        """
        profile = self.outcome.snapshot.profile
        if profile is None or (profile.valid and profile.nodes[0].ip):
            return False
        if not (self.minikube.path / "profiles" / profile.name / "client.crt").exists():
            return True
        if not profile.valid:
            raise MlopsError(
                f"The configuration of {self._title} in {self.minikube.path} is damaged, and Minikube cannot use it."
                " Restore its config.json from a backup, or delete the cluster with its data (state: absent) and start"
                " anew."
            )
        return False

    def _call(self, *arguments: str, follow: Callable[[str], None] | None = None) -> None:
        """Call Minikube, then look again at what there is."""

        def show_line(line: str) -> None:
            if text := line.strip().removeprefix("* "):  # Minikube's bullet where it does without emoji.
                self.show(text)

        self.outcome.actions.append(arguments[0])
        result = self.minikube.run(*arguments, on_line=follow or show_line)
        if result.rc != 0:
            raise explain_failure(f"`minikube {arguments[0]}` for {self._title}", result)
        self.outcome.snapshot = self.minikube.snapshot()


def _expects_to_run(wanted: Wanted) -> bool:
    """Whether the caller asked for a cluster that runs when the task ends (not `wait: [none]`)."""
    return not ({"none", "false"} & set(wanted.wait)) and not wanted.start_options.get("no-kubernetes")
