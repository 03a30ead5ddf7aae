# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one version of a registered model into a state."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import Client, ModelVersion, found
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_entity import Entity, change_part, compare_part

NEW = "new"  # stands for the number that MLflow gives a version when it is made
_INTERVAL = 1.0  # s between looks at a version that is not ready


class KeptVersion(Entity[ModelVersion]):
    """A version of a registered model, known by its number, an alias or its source."""

    what = "a registered model"

    def __init__(self, client: Client, parameters: Mapping[str, Any], *, check_mode: bool) -> None:
        super().__init__(client, parameters, check_mode=check_mode)
        self.name: str = parameters["name"]
        self.source: str | None = parameters["source"]
        self.wanted: bool = parameters["state"] == "present"
        self.number: int | None = parameters["version"]  # once found it is the number that counts: aliases move
        self.aliases: Mapping[str, int] = {}  # of the model
        both = sorted(set(parameters["aliases"]) & set(parameters["aliases_absent"]))
        if both:
            raise MlopsError(f"The alias {both[0]!r} is in aliases and in aliases_absent: leave one out")
        if self.source and re.match(r"models:/+([^/]*@|[^/]+/(?!\d+$))", self.source):
            raise MlopsError(
                f"The source {self.source} may mean another version tomorrow, so that a version of it would be made "
                "again: give the number, as in models:/NAME/3"
            )

    def find(self) -> ModelVersion | None:
        """The version, which is waited for until it is ready."""
        model = found(lambda: self.client.model(self.name))
        if model is None:
            if self.wanted and not (self.source and self.check_mode):  # a task before may be what makes it
                raise MlopsError(f"There is no registered model {self.name!r}: make it with mlflow_registered_model")
            return None
        self.aliases = model.aliases
        self.number = self.number or self._number()
        number = self.number
        version = found(lambda: self.client.model_version(self.name, number)) if number else None
        if version is None:
            if self.wanted and not self.source:
                missing = f"alias {self.parameters['alias']}" if self.parameters["alias"] else f"version {self.number}"
                raise MlopsError(
                    f"The registered model {self.name!r} has no {missing}: the latest version is {model.latest_version}"
                    f", aliases are {', '.join(sorted(self.aliases)) or 'none'}. Give source to make a version"
                )
            return None
        return self._ready(version) if self.wanted else version

    def compare(self, actual: ModelVersion | None) -> Difference:
        """What has to change in its description, tags and aliases."""
        difference = Difference()
        if not self.wanted:
            if actual:
                difference.compare("version", actual.version, None)
                compare_part(difference, "aliases", self.aliases, dict.fromkeys(actual.aliases))
            return difference
        number = actual.version if actual else NEW
        difference.compare("version", actual.version if actual else None, number)
        if actual is None:
            difference.compare("source", None, self.source)
        if self.parameters["description"] is not None:
            difference.compare("description", actual.description if actual else "", self.parameters["description"])
        compare_part(difference, "tags", actual.tags if actual else None, self.tags)
        removed = (alias for alias in self.parameters["aliases_absent"] if self.aliases.get(alias) == number)
        aliases = dict.fromkeys(self.parameters["aliases"], number) | dict.fromkeys(removed)
        compare_part(difference, "aliases", self.aliases, aliases)
        return difference

    def create(self) -> ModelVersion | None:
        """Make it with description and tags, wait until it is ready, then have the aliases point to it."""
        source = self.parameters["source"]
        given = {"run_id": self.parameters["run_id"], "description": self.parameters["description"]}
        wanted = origin(source) | {key: value for key, value in given.items() if value is not None}
        self.number = self.client.create_model_version(self.name, source, **wanted, tags=self.initial_tags)
        made = self.find()
        return made and self.change(made, self.compare(made))

    def change(self, actual: ModelVersion, difference: Difference) -> ModelVersion | None:
        """Remove it with its aliases, or change its description, tags and aliases."""
        client, this, after = self.client, (actual.name, actual.version), difference.after
        if not self.wanted:
            client.delete_model_version(*this)
            return None
        if "description" in after:
            client.describe_model_version(*this, after["description"])
        put, remove = partial(client.set_model_version_tag, *this), partial(client.delete_model_version_tag, *this)
        change_part(difference, "tags", put, remove)
        put, remove = partial(client.set_model_alias, self.name), partial(client.delete_model_alias, self.name)
        change_part(difference, "aliases", put, remove)
        return self.find()

    def _number(self) -> int | None:
        """The number that an alias or the source stands for."""
        if not self.source:
            return self.aliases.get(self.parameters["alias"])
        numbers = sorted(item.version for item in self.client.model_versions(self.name) if item.source == self.source)
        if len(numbers) > 1 and not self.wanted:
            raise MlopsError(
                f"Versions {', '.join(map(str, numbers))} of the registered model {self.name!r} have the source "
                f"{self.source}: say by `version` which of them to remove"
            )
        return numbers[-1] if numbers else None

    def _ready(self, version: ModelVersion) -> ModelVersion:
        """The version once it is READY (`mlflow.entities.model_registry.ModelVersionStatus`)."""
        end = time.monotonic() + self.parameters["ready_timeout"]
        while version.status == "PENDING_REGISTRATION" and not self.check_mode and time.monotonic() < end:
            time.sleep(_INTERVAL)
            version = self.client.model_version(self.name, version.version)
        if version.status == "READY" or (self.check_mode and version.status == "PENDING_REGISTRATION"):
            return version
        said = f" MLflow says: {version.status_message}." if version.status_message else ""
        which = f"Version {version.version} of the registered model {self.name!r}"
        if version.status == "PENDING_REGISTRATION":
            seconds = f"{self.parameters['ready_timeout']:g} s"
            raise MlopsError(
                f"{which} was not ready after {seconds}.{said} Raise ready_timeout, or see the server's log"
            )
        raise MlopsError(
            f"{which} is {version.status}.{said} Remove it (state=absent, version={version.version}) and try again"
        )


def origin(source: str) -> dict[str, str]:
    """What MLflow wants to know beside a source that names a run or a logged model.

    Source: `mlflow.server.handlers._validate_source_{run,model}`.
    """
    run = re.match(r"runs:/+([^/]+)", source)
    model = re.fullmatch(r"models:/+([^/@]+)", source)
    return {"run_id": run[1]} if run else {"model_id": model[1]} if model else {}
