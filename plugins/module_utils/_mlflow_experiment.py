# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one MLflow experiment into a state."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils import _mlflow_entity as entity
from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import Experiment


def ensure(parameters: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The module: bring the experiment into the state that `parameters` name."""
    return entity.ensure(KeptExperiment, "experiment", parameters, check_mode=check_mode)


class KeptExperiment(entity.Entity[Experiment]):
    """An experiment, known by its name."""

    what = "an experiment"

    def find(self) -> Experiment | None:
        """The experiment, active or deleted."""
        return self.client.experiment(self.parameters["name"])

    def compare(self, actual: Experiment | None) -> Difference:
        """What has to change in its stage, place and tags."""
        return compare(actual, self.parameters, self.tags)

    def create(self) -> Experiment | None:
        """Make it with its tags."""
        parameters = self.parameters
        self.client.create_experiment(parameters["name"], parameters["artifact_location"], self.initial_tags)
        return self.find()

    def change(self, actual: Experiment, difference: Difference) -> Experiment | None:
        """Delete or restore it, or change its tags."""
        client = self.client
        stage = difference.after.get("lifecycle_stage")
        if stage == "deleted":
            client.delete_experiment(actual.id)
        elif stage == "active":
            client.restore_experiment(actual.id)
        put, remove = partial(client.set_experiment_tag, actual.id), partial(client.delete_experiment_tag, actual.id)
        entity.change_part(difference, "tags", put, remove)
        return self.find()


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
    entity.compare_part(difference, "tags", actual.tags if actual else None, wanted_tags)
    return difference
