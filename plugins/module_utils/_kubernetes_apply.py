# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugin kubernetes_apply decides; the work itself is kubernetes.core.k8s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FIELD_MANAGER = "mlops.mlflow"
# What the server changes by itself would drown the diff, and the content of Secrets stays out of it.
HIDDEN_FIELDS = ["metadata.managedFields", "metadata.resourceVersion", "metadata.generation", "status", "data"]
WEBHOOK_RETRIES, WEBHOOK_PAUSE = 20, 3  # times and seconds: a controller that starts is ready within a minute

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str", "required": True},
    "cluster": {"type": "dict", "required": True},
    "namespace": {"type": "str", "required": True},
    "component": {"type": "str", "required": True},
    "definitions": {"type": "list", "elements": "dict", "required": True},
    "wait_timeout": {"type": "int", "default": 0},
}


def identity(definition: Mapping[str, Any]) -> str:
    """How an object is named to people: kind/name."""
    return f"{definition['kind']}/{definition['metadata']['name']}"


def namespace_known(cluster: Mapping[str, Any], namespace: str) -> bool:
    """Whether a dry run can be asked of the server, which answers 404 for objects in a namespace that is not there."""
    return bool(cluster["reachable"]) and any(found["namespace"] == namespace for found in cluster["objects"])


def unwanted(
    cluster: Mapping[str, Any], component: str, definitions: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The component's objects in the cluster that are no longer among its definitions, in a form to delete them by."""
    wanted = {identity(definition) for definition in definitions}
    return [
        {
            "apiVersion": found["apiVersion"],
            "kind": found["kind"],
            "metadata": {"name": found["name"], **({"namespace": found["namespace"]} if found["namespace"] else {})},
        }
        for found in cluster["objects"]
        if found["component"] == component and f"{found['kind']}/{found['name']}" not in wanted
    ]


def creation_diff(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The diff of an object that would be new; what a Secret holds is left out."""
    shown = {key: value for key, value in definition.items() if key not in ("data", "stringData")}
    return {"before_header": identity(definition), "after_header": identity(definition), "before": {}, "after": shown}


def results(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """kubernetes.core.k8s's result for each definition: in a list, except where there was but one definition."""
    several = answer.get("result", {}).get("results")
    return [dict(answer)] if several is None else list(several)


def change_diffs(answer: Mapping[str, Any], definitions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The diffs of the definitions that changed, each headed by its object; the module itself shows none for a list."""
    diffs = []
    for definition, result in zip(definitions, results(answer), strict=True):
        if not result.get("changed"):
            continue
        diff = result.get("diff") or {}
        if diff.get("before") or diff.get("after"):
            header = {"before_header": identity(definition), "after_header": identity(definition)}
            diffs.append({"before": diff.get("before", {}), "after": diff.get("after", {}), **header})
        else:
            diffs.append(creation_diff(definition))
    return diffs
