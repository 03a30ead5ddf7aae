# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read runs, and bring one into a state."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import (
    NAME_TAG,
    PARENT_TAG,
    VIEWS,
    Client,
    Run,
    found,
    quoted,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_entity import (
    Entity,
    change_part,
    compare_part,
    first,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import server_of


def read(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The runs that a module's parameters ask for; none where there is no such experiment."""
    with Client(server_of(parameters), parameters["timeout"]) as client:
        run_id = parameters["run_id"]
        if run_id:
            run = found(lambda: client.run(run_id))
            if run is None:
                raise MlopsError(f"There is no run {run_id}: was it removed for good by `mlflow gc`?")
            runs, truncated = [run], False
        else:
            experiment = client.experiment(parameters["experiment"])
            search = {
                "filter_string": condition(parameters["filter"], parent=parameters["parent"]),
                "order_by": parameters["order_by"],
                "view": VIEWS[parameters["view"]],
            }
            runs, truncated = first(
                parameters["limit"],
                lambda limit: client.runs(experiment.id, **search, limit=limit) if experiment else [],
            )
        return {"changed": False, "runs": [run.result() for run in runs], "truncated": truncated}


def condition(given: str | None = None, *, name: str | None = None, parent: str | None = None) -> str:
    """A filter string; the contract is that of `mlflow.utils.search_utils`, which knows AND and no parentheses."""
    parts = [given] if given and given.strip() else []
    parts += [f"attributes.run_name = {quoted(name)}"] if name else []
    parts += [f"tags.`{PARENT_TAG}` = {quoted(parent)}"] if parent else []
    return " AND ".join(parts)


class KeptRun(Entity[Run]):
    """The newest active run of a name in an experiment."""

    what = "a run"
    named_by = ("experiment", "name")

    def __init__(self, client: Client, parameters: Mapping[str, Any], *, check_mode: bool) -> None:
        super().__init__(client, parameters, check_mode=check_mode)
        self.experiment_id = ""
        for tag, option in ((NAME_TAG, "name"), (PARENT_TAG, "parent")):
            if tag in self.tags:
                raise MlopsError(f"The tag {tag!r} cannot be kept, as it says which run is meant: give `{option}`")

    def find(self) -> Run | None:
        """The newest active run of that name."""
        runs = self._named(limit=1)
        return runs[0] if runs else None

    def compare(self, actual: Run | None) -> Difference:
        """What has to change in its status and tags."""
        difference = Difference()
        wanted = self.parameters
        if wanted["state"] == "absent":
            if actual:
                difference.compare("lifecycle_stage", "active", "deleted")
            return difference
        difference.compare("lifecycle_stage", "active" if actual else None, "active")
        status = wanted["status"] or (actual.status if actual else "RUNNING")
        difference.compare("status", actual.status if actual else None, status)
        if wanted["parent"]:
            difference.compare("parent", actual.tags.get(PARENT_TAG) if actual else None, wanted["parent"])
        compare_part(difference, "tags", actual.tags if actual else None, self.tags)
        return difference

    def create(self) -> Run | None:
        """Start it with its tags, and end it where that is asked for."""
        parent = self.parameters["parent"]
        if parent and found(lambda: self.client.run(parent)) is None:
            raise MlopsError(f"The run {self.parameters['name']!r} cannot be made: there is no run {parent} (`parent`)")
        tags = self.initial_tags | ({PARENT_TAG: parent} if parent else {})
        made = self.client.run(self.client.create_run(self.experiment_id, self.parameters["name"], tags))
        return self.change(made, self.compare(made))

    def change(self, actual: Run, difference: Difference) -> Run | None:
        """Delete all runs of the name, or change the status and the tags of this one."""
        client, after = self.client, difference.after
        if after.get("lifecycle_stage") == "deleted":
            for run in self._named():
                client.delete_run(run.id)
        if "status" in after:
            client.set_run_status(actual.id, after["status"])
        put, remove = partial(client.set_run_tag, actual.id), partial(client.delete_run_tag, actual.id)
        change_part(difference, "tags", put, remove)
        return client.run(actual.id)

    def _named(self, limit: int | None = None) -> list[Run]:
        """The active runs of the name, the newest first."""
        name, wanted = self.parameters["experiment"], self.parameters["state"] == "present"
        experiment = self.client.experiment(name)
        if experiment is None or experiment.deleted:
            if wanted and not self.check_mode:  # there, a task before may be what makes it
                reason = "was deleted: use state=restored" if experiment else "does not exist: make it"
                raise MlopsError(f"The experiment {name!r} {reason} with mlflow_experiment")
            return []
        self.experiment_id = experiment.id
        wanted_runs = condition(name=self.parameters["name"], parent=self.parameters["parent"])
        return self.client.runs(experiment.id, filter_string=wanted_runs, limit=limit)
