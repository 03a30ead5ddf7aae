# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one MLflow experiment into a state: what has to change is computed first, then done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import Client, Experiment
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import MlflowError, server_of


def ensure(parameters: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The module: bring the experiment into the state that `parameters` name."""
    with Client(server_of(parameters), parameters["timeout"]) as client:
        wanted_tags = _tags(parameters["tags"])
        name, state = _name(parameters["name"]), parameters["state"]
        actual = client.experiment(name)
        if actual is None and state == "present" and not check_mode:
            tags = {key: value for key, value in wanted_tags.items() if value is not None}
            try:
                client.create_experiment(name, parameters["artifact_location"], tags)
            except MlflowError as error:
                if error.code != "RESOURCE_ALREADY_EXISTS":  # somebody else was faster: compare with theirs
                    raise
                actual = client.experiment(name)
        difference = compare(actual, parameters, wanted_tags)
        if difference and not check_mode:
            if actual is not None:
                _change(client, actual, difference)
            actual = client.experiment(name)
        return {"experiment": actual.result() if actual else None, **difference.result()}


def compare(
    actual: Experiment | None, parameters: Mapping[str, Any], wanted_tags: Mapping[str, str | None]
) -> Difference:
    """What has to change in an experiment, or an error where the state cannot be reached."""
    name, state, location = parameters["name"], parameters["state"], parameters["artifact_location"]
    difference = Difference()
    if state == "absent":
        if actual and not actual.deleted:
            difference.compare("lifecycle_stage", "active", "deleted")
        return difference
    if actual is None:
        if state == "restored":
            raise MlopsError(
                f"The experiment {name!r} cannot be restored: there is none of that name, deleted or not. "
                "`mlflow gc` may have removed it for good; use state=present to make a new one"
            )
        difference.compare("lifecycle_stage", None, "active")
        if location:
            difference.compare("artifact_location", None, location)
    elif actual.deleted and state == "present":
        raise MlopsError(
            f"The experiment {name!r} cannot be made: there is a deleted one of that name (id {actual.id}). Use "
            "state=restored to get it back with its runs, or remove it for good with "
            f"`mlflow gc --experiment-ids {actual.id}`"
        )
    elif location and location.rstrip("/") != actual.artifact_location.rstrip("/"):
        raise MlopsError(
            f"The experiment {name!r} keeps its artifacts in {actual.artifact_location}, and MLflow cannot move them "
            f"to {location}: leave artifact_location out, or make an experiment of another name"
        )
    else:
        difference.compare("lifecycle_stage", "deleted" if actual.deleted else "active", "active")
    tags = Difference.between(actual.tags if actual else {}, wanted_tags)
    if tags:
        difference.compare("tags", tags.before, tags.after)
    return difference


def _change(client: Client, actual: Experiment, difference: Difference) -> None:
    stage = difference.after.get("lifecycle_stage")
    if stage == "deleted":
        client.delete_experiment(actual.id)
        return
    if stage == "active":
        client.restore_experiment(actual.id)
    for key, value in difference.after.get("tags", {}).items():
        if value is None:
            client.delete_experiment_tag(actual.id, key)
        else:
            client.set_experiment_tag(actual.id, key, value)


def _name(name: str) -> str:
    if not name.strip():
        raise MlopsError("The name of an experiment must not be empty")
    return name


def _tags(given: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Tags as MLflow keeps them, which is as text; None removes one."""
    tags: dict[str, str | None] = {}
    for key, value in (given or {}).items():
        if isinstance(value, (dict, list)):
            raise MlopsError(f"The value of the tag {key!r} has to be text, not {value!r}: MLflow keeps tags as text")
        tags[str(key)] = None if value is None else str(value)
    return tags
