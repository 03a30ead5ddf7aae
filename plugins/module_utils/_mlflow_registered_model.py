# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one registered model into a state."""

from __future__ import annotations

from functools import partial

from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import RegisteredModel, found
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_entity import Entity, change_part, compare_part


class KeptModel(Entity[RegisteredModel]):
    """A registered model, known by its name."""

    what = "a registered model"

    def find(self) -> RegisteredModel | None:
        """The model."""
        return found(lambda: self.client.model(self.parameters["name"]))

    def compare(self, actual: RegisteredModel | None) -> Difference:
        """What has to change in its description and tags."""
        difference = Difference()
        difference.compare("state", "present" if actual else "absent", self.parameters["state"])
        if self.parameters["state"] == "present":
            if self.parameters["description"] is not None:
                difference.compare("description", actual.description if actual else "", self.parameters["description"])
            compare_part(difference, "tags", actual.tags if actual else None, self.tags)
        return difference

    def create(self) -> RegisteredModel | None:
        """Make it with description and tags."""
        name = self.parameters["name"]
        self.client.create_model(name, self.parameters["description"] or "", self.initial_tags)
        return self.find()

    def change(self, actual: RegisteredModel, difference: Difference) -> RegisteredModel | None:
        """Remove it, or change its description and tags."""
        client, after = self.client, difference.after
        if after.get("state") == "absent":
            client.delete_model(actual.name)
        if "description" in after:
            client.describe_model(actual.name, after["description"])
        put, remove = partial(client.set_model_tag, actual.name), partial(client.delete_model_tag, actual.name)
        change_part(difference, "tags", put, remove)
        return self.find()
