# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addons of a Minikube cluster, verified by their workloads.

`addons enable` applies the addon anew on every call, ends with exit code 0 where image names are unknown, and waits
for pods to run, not to be ready (pkg/addons/addons.go, v1.38.1). What is enabled, and with which images, is in the
profile's configuration (`Addons`, `CustomAddonImages`, `CustomAddonRegistries`).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import (
    Minikube,
    Profile,
    check_profile_name,
    explain_failure,
    load_profile,
)

_KINDS = "deployments,daemonsets,replicationcontrollers"
_ADDON_LABEL = "kubernetes.io/minikube-addons"
# Addons whose workloads carry labels of their own instead of Minikube's (deploy/addons/*).
_SELECTORS = {"ingress": ("ingress-nginx", "app.kubernetes.io/name=ingress-nginx")}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_INTERVAL_SECONDS = 2.0


@dataclass(frozen=True)
class Workload:
    """A Deployment, DaemonSet or ReplicationController of an addon."""

    kind: str
    namespace: str
    name: str
    wanted: int
    ready: int

    @property
    def available(self) -> bool:
        return self.ready >= self.wanted

    def record(self) -> dict[str, Any]:
        return {"kind": self.kind, "namespace": self.namespace, "name": self.name, "available": self.available}


def parse_workloads(document: Mapping[str, Any]) -> tuple[Workload, ...]:
    """The workloads of `kubectl get -o json`. A Deployment counts what is available, after its rollout is observed."""
    workloads = []
    for item in document.get("items") or []:
        kind, metadata, status = item.get("kind", ""), item.get("metadata", {}), item.get("status", {})
        if kind == "DaemonSet":
            wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
        else:
            wanted = item.get("spec", {}).get("replicas", 1)
            ready = min(status.get("availableReplicas", 0), status.get("updatedReplicas", status.get("replicas", 0)))
        if status.get("observedGeneration", 0) < metadata.get("generation", 0):
            ready = -1  # What is counted is still the workload before the last change.
        workloads.append(Workload(kind, metadata.get("namespace", ""), metadata.get("name", ""), wanted, ready))
    return tuple(workloads)


def describe_pods(document: Mapping[str, Any]) -> list[str]:
    """One line a pod: phase, and why its containers wait."""
    lines = []
    for pod in document.get("items") or []:
        metadata, status = pod.get("metadata", {}), pod.get("status", {})
        containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
        reasons = [
            f"{container.get('name')}: {state['reason']} {state.get('message', '')}".strip()
            for container in containers
            for state in (container.get("state") or {}).values()
            if state.get("reason") not in (None, "Completed")
        ]
        reasons += [
            condition.get("message", "not scheduled")
            for condition in status.get("conditions") or []
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
        ]
        text = f"{metadata.get('namespace')}/{metadata.get('name')} {status.get('phase')}"
        lines.append(f"{text} ({'; '.join(reasons)})" if reasons else text)
    return lines


@dataclass(frozen=True)
class Wanted:
    """An addon as a playbook wants it; overrides that are not given agree with anything."""

    name: str
    enabled: bool = True
    images: Mapping[str, str] = field(default_factory=dict)
    registries: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse names that cannot be one, before anything is called."""
        if not _NAME.fullmatch(self.name):
            raise MlopsError(f"'{self.name}' is not the name of an addon.")
        for key, value in [*self.images.items(), *self.registries.items()]:
            if not re.fullmatch(r"\w+", key, re.ASCII) or not value or "," in value or "=" in value:
                raise MlopsError(f"'{key}: {value}' is not an image or registry of an addon.")

    def arguments(self) -> list[str]:
        """Arguments of `minikube addons`."""
        if not self.enabled:
            return ["addons", "disable", self.name]
        arguments = ["addons", "enable", self.name]
        for flag, values in (("images", self.images), ("registries", self.registries)):
            if values:
                arguments.append(f"--{flag}=" + ",".join(f"{key}={value}" for key, value in values.items()))
        return arguments


def compare(profile: Profile | None, wanted: Wanted) -> Difference:
    """The addon in the profile's configuration against the wanted one."""
    config = profile.config if profile is not None else {}
    difference = Difference()
    difference.compare("enabled", bool((config.get("Addons") or {}).get(wanted.name)), wanted.enabled)
    for name, key, values in (
        ("images", "CustomAddonImages", wanted.images),
        ("registries", "CustomAddonRegistries", wanted.registries),
    ):
        actual = config.get(key) or {}
        if wanted.enabled and values:
            difference.compare(name, {item: actual.get(item) for item in values}, dict(values))
    return difference


@dataclass
class Outcome:
    """What ensure() did or, in check mode, would do."""

    difference: Difference
    workloads: tuple[Workload, ...] = ()


class Addons:
    """The addons of one profile."""

    def __init__(
        self,
        minikube: Minikube,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        check_profile_name(minikube.profile, new=False)
        self._minikube = minikube
        self._clock = clock
        self._sleep = sleep

    def ensure(self, wanted: Wanted, *, wait: bool, check_mode: bool) -> Outcome:
        """Enable or disable the addon; with `wait`, until its workloads are available."""
        wanted.check()
        profile = load_profile(self._minikube.path, self._minikube.profile)
        difference = compare(profile, wanted)
        if profile is None or self._minikube.locate() is None:
            if not check_mode and difference:
                self._minikube.require()
                raise MlopsError(
                    f"Addon '{wanted.name}' cannot be enabled: there is no Minikube profile"
                    f" '{self._minikube.profile}' in {self._minikube.path}."
                )
            return Outcome(difference)
        deadline = self._clock() + self._minikube.timeout
        if not difference:
            return self._verify(profile, wanted, wait=wait, check_mode=check_mode, deadline=deadline)
        self._check_known(wanted.name)
        if check_mode:
            return Outcome(difference)
        return Outcome(difference, self._apply(profile, wanted, wait=wait, deadline=deadline))

    def _verify(self, profile: Profile, wanted: Wanted, *, wait: bool, check_mode: bool, deadline: float) -> Outcome:
        """An addon that is enabled on paper: enable it again where its workloads are gone."""
        outcome = Outcome(Difference())
        if not wanted.enabled or not wait:
            return outcome
        outcome.workloads = self._workloads(profile, wanted.name)
        if wanted.name in _SELECTORS and not outcome.workloads:
            outcome.difference.compare("workloads", [], ["present"])
            if not check_mode:
                outcome.workloads = self._apply(profile, wanted, wait=wait, deadline=deadline)
        elif not check_mode:
            outcome.workloads = self._wait(profile, wanted.name, deadline)
        return outcome

    def _check_known(self, name: str) -> None:
        result = self._minikube.run("addons", "list", "-o", "json", timeout=60)
        try:
            known = json.loads(result.stdout)
        except ValueError:
            raise explain_failure("Listing the addons", result) from None
        if name not in known:
            raise MlopsError(f"This Minikube has no addon '{name}'. It has: {', '.join(sorted(known))}.")

    def _apply(self, profile: Profile, wanted: Wanted, *, wait: bool, deadline: float) -> tuple[Workload, ...]:
        statuses = self._minikube.status()
        if not statuses or not all(status.running for status in statuses):
            raise MlopsError(
                f"Addon '{wanted.name}' needs a running cluster, and Minikube profile '{self._minikube.profile}' does"
                " not run. Start it first (mlops.mlflow.minikube_cluster, state: started)."
            )
        try:
            result = self._minikube.run(*wanted.arguments())
            if result.rc != 0:
                raise explain_failure(f"`minikube {' '.join(wanted.arguments()[:3])}`", result)
        except MlopsError as error:
            raise self._with_pods(profile, wanted.name, error) from error
        left = compare(load_profile(self._minikube.path, self._minikube.profile), wanted)
        if left:
            raise MlopsError(
                f"`minikube {' '.join(wanted.arguments()[:3])}` said nothing, but left undone: {left.after}. The names"
                f" of the addon's images are those of `minikube addons images {wanted.name}`.",
                output_tail=list(result.tail[-15:]),
            )
        return self._wait(profile, wanted.name, deadline) if wanted.enabled and wait else ()

    def _wait(self, profile: Profile, name: str, deadline: float) -> tuple[Workload, ...]:
        while True:
            workloads = self._workloads(profile, name)
            if all(workload.available for workload in workloads):
                return workloads
            if self._clock() >= deadline:
                waiting = ", ".join(
                    f"{workload.kind} {workload.namespace}/{workload.name}"
                    for workload in workloads
                    if not workload.available
                )
                error = MlopsError(
                    f"Addon '{name}' is enabled, but {waiting} did not become available within"
                    f" {self._minikube.timeout:.0f} seconds."
                )
                raise self._with_pods(profile, name, error)
            self._sleep(_INTERVAL_SECONDS)

    def _with_pods(self, profile: Profile, name: str, error: MlopsError) -> MlopsError:
        try:
            pods = describe_pods(self._get(profile, name, "pods"))
        except MlopsError:
            pods = []  # The first error is the one to tell.
        message = error.message + (" Pods: " + "; ".join(pods) + "." if pods else "")
        return MlopsError(message, **{**error.details, "pods": pods})

    def _workloads(self, profile: Profile, name: str) -> tuple[Workload, ...]:
        return parse_workloads(self._get(profile, name, _KINDS))

    def _get(self, profile: Profile, name: str, kinds: str) -> Mapping[str, Any]:
        """The addon's objects by the kubectl of the node, where there is one: nothing is downloaded for it."""
        namespace, selector = _SELECTORS.get(name, ("", f"{_ADDON_LABEL}={name}"))
        scope = f"--namespace={namespace}" if namespace else "--all-namespaces"
        ssh = [] if profile.driver == "none" else ["--ssh"]
        result = self._minikube.run(
            "kubectl", *ssh, "--", "get", kinds, scope, f"--selector={selector}", "--output=json", timeout=60
        )
        try:
            document: Mapping[str, Any] = json.loads(result.stdout)
        except ValueError:
            raise explain_failure(f"Reading the workloads of addon '{name}'", result) from None
        return document
