# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applies a component's objects on the server's side, prunes what it no longer wants, and waits for its Deployments.

Contract: https://kubernetes.io/docs/reference/using-api/server-side-apply/ (also for the dry run).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes import (
    APPLY,
    ApiError,
    Connection,
    connect,
    object_path,
)

FIELD_MANAGER = "mlops.mlflow"
WEBHOOK_RETRIES, WEBHOOK_PAUSE = 20, 3  # times and seconds: an ingress controller that starts is ready within a minute
# What holds data, perhaps other people's too, goes by a teardown alone.
NEVER_PRUNED = ("Namespace", "PersistentVolume", "PersistentVolumeClaim")
REMOVAL_TIMEOUT = 120  # seconds
# What the server sets by itself would drown the diff.
SERVER_FIELDS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str", "required": True},
    "cluster": {"type": "dict", "required": True},
    "namespace": {"type": "str", "required": True},
    "component": {"type": "str", "required": True},
    "definitions": {"type": "list", "elements": "dict", "required": True},
    "wait_timeout": {"type": "int", "default": 0},
}

Tell = Callable[[str], None]


def identity(definition: Mapping[str, Any]) -> str:
    """How an object is named to people: kind/name."""
    return f"{definition['kind']}/{definition['metadata']['name']}"


def namespace_known(cluster: Mapping[str, Any], namespace: str) -> bool:
    """Whether a dry run can be asked of the server, which answers 404 for objects in a namespace that is not there."""
    return bool(cluster["reachable"]) and any(found["namespace"] == namespace for found in cluster["objects"])


def unwanted(
    cluster: Mapping[str, Any], component: str, definitions: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The component's objects in the cluster that are no longer among its definitions, without those that hold data."""
    wanted = {identity(definition) for definition in definitions}
    return [
        {
            "apiVersion": found["apiVersion"],
            "kind": found["kind"],
            "metadata": {"name": found["name"], "namespace": found["namespace"]},
        }
        for found in cluster["objects"]
        if found["component"] == component
        and found["kind"] not in NEVER_PRUNED
        and f"{found['kind']}/{found['name']}" not in wanted
    ]


def settings(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """What people set of an object: all but its status and what the server keeps in its metadata."""
    kept = {key: value for key, value in (found or {}).items() if key != "status"}
    if "metadata" in kept:
        kept["metadata"] = {key: value for key, value in kept["metadata"].items() if key not in SERVER_FIELDS}
    return kept


def difference(
    definition: Mapping[str, Any], before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> dict[str, Any]:
    """One diff in Ansible's shape, headed by the object; what a Secret holds is left out."""

    def shown(found: Mapping[str, Any] | None) -> dict[str, Any]:
        hidden = ("data", "stringData") if definition["kind"] == "Secret" else ()
        return {key: value for key, value in settings(found).items() if key not in hidden}

    header = identity(definition)
    return {"before_header": header, "after_header": header, "before": shown(before), "after": shown(after)}


def deployment_ready(deployment: Mapping[str, Any]) -> bool:
    """Whether the rollout is complete, by the rules of `kubectl rollout status`."""
    status, replicas = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == replicas
        and status.get("replicas", 0) == replicas
        and status.get("availableReplicas", 0) == replicas
    )


def apply(connection: Connection, definition: Mapping[str, Any], *, dry_run: bool, tell: Tell) -> dict[str, Any]:
    """The object as the server has it (or, in a dry run, would have it) afterwards. Raises ApiError."""
    metadata = definition["metadata"]
    path = object_path(definition["kind"], metadata["name"], metadata.get("namespace"))
    query = {"fieldManager": FIELD_MANAGER, "force": "true", **({"dryRun": "All"} if dry_run else {})}
    attempt = 1
    while True:
        try:
            return connection.json("PATCH", path, query=query, body=definition, content_type=APPLY, read_timeout=60)
        except ApiError as error:
            if "failed calling webhook" not in error.message or attempt == WEBHOOK_RETRIES:
                raise
            tell(f"An admission webhook does not answer yet; attempt {attempt}, again in {WEBHOOK_PAUSE} s")
            time.sleep(WEBHOOK_PAUSE)
            attempt += 1


def wait_for_rollout(connection: Connection, deployment: Mapping[str, Any], timeout: float) -> None:
    """Return once the Deployment is rolled out; MlopsError where it is not within `timeout` seconds."""
    name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
    deadline = time.monotonic() + timeout
    now: Mapping[str, Any] | None = deployment
    while now and not deployment_ready(now):
        left = deadline - time.monotonic()
        if left <= 0:
            conditions = now.get("status", {}).get("conditions") or []
            said = "; ".join(each.get("message", "") for each in conditions if each["status"] != "True")
            raise MlopsError(
                f"Deployment {namespace}/{name} is not rolled out after {timeout:.0f} s: {said or 'no pod'}."
            )
        version = now["metadata"]["resourceVersion"]
        for changed in connection.watch("Deployment", name, namespace, version, left):
            now = changed
            if deployment_ready(now):
                return
        now = connection.find("Deployment", name, namespace)
    if now is None:
        raise MlopsError(f"Deployment {namespace}/{name} was removed by somebody else during its rollout. Run again.")


def remove(connection: Connection, definition: Mapping[str, Any]) -> None:
    """Delete the object and what it owns, and return once it is gone; MlopsError where it stays.

    Where the definition has a uid, as an object that was found has, another object of its name is left alone.
    """
    metadata = definition["metadata"]
    where = (definition["kind"], metadata["name"], metadata.get("namespace"))
    uid = metadata.get("uid")
    body = {"propagationPolicy": "Foreground"} | ({"preconditions": {"uid": uid}} if uid else {})
    try:
        connection.json("DELETE", object_path(*where), body=body)
    except ApiError as error:
        if error.status not in (404, 409):  # 409: the name has another uid by now
            raise
    deadline = time.monotonic() + REMOVAL_TIMEOUT
    while (found := connection.find(*where)) and uid in (None, found["metadata"]["uid"]):
        if time.monotonic() > deadline:
            raise MlopsError(f"{identity(definition)} is still there {REMOVAL_TIMEOUT} s after its deletion.")
        time.sleep(0.5)


def kubernetes_apply(parameters: Mapping[str, Any], *, check_mode: bool, tell: Tell) -> dict[str, Any]:
    """The result's `changed` and `diff`; raises MlopsError. `tell` shows a line to people."""
    definitions, cluster = parameters["definitions"], parameters["cluster"]
    if check_mode and not namespace_known(cluster, parameters["namespace"]):
        diffs = [difference(definition, None, definition) for definition in definitions]
        return {"changed": bool(diffs), "diff": diffs}

    connection = connect(parameters["kubeconfig"], parameters["context"], os.environ)
    diffs, rollouts = [], []
    for definition in definitions:
        metadata = definition["metadata"]
        before = connection.find(definition["kind"], metadata["name"], metadata.get("namespace"))
        after = apply(connection, definition, dry_run=check_mode, tell=tell)
        if settings(before) != settings(after):
            diffs.append(difference(definition, before, after))
        if definition["kind"] == "Deployment":
            rollouts.append(after)
    if parameters["wait_timeout"] and not check_mode:
        for deployment in rollouts:
            wait_for_rollout(connection, deployment, parameters["wait_timeout"])
    for definition in unwanted(cluster, parameters["component"], definitions):
        diffs.append(difference(definition, definition, None))
        if not check_mode:
            remove(connection, definition)
    return {"changed": bool(diffs), "diff": diffs}
