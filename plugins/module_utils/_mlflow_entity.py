# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all modules share that keep something on an MLflow server: what has to change is computed first, then done.

A subclass of `Entity` says how to find, compare, make and change one kind of thing, and nothing else: check mode, the
race with others who make the same thing, and a module's result are here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import Client
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import MlflowError, server_of


class Record(Protocol):
    """Something as MLflow returns it."""

    def result(self) -> dict[str, Any]:
        """As modules return it."""


_R = TypeVar("_R", bound=Record)
_T = TypeVar("_T")


class Entity(ABC, Generic[_R]):
    """One thing on a server, and what a module's parameters want of it."""

    what: ClassVar[str]  # how messages call it
    named_by: ClassVar[tuple[str, ...]] = ("name",)  # options that must not be empty

    def __init__(self, client: Client, parameters: Mapping[str, Any], *, check_mode: bool) -> None:
        self.client = client
        self.parameters = parameters
        self.check_mode = check_mode
        self.tags = tags_of(parameters.get("tags"))
        for option in self.named_by:
            if not parameters[option].strip():
                raise MlopsError(f"The {option} of {self.what} must not be empty")

    @property
    def initial_tags(self) -> dict[str, str]:
        """The tags of a new one."""
        return {key: value for key, value in self.tags.items() if value is not None}

    @abstractmethod
    def find(self) -> _R | None:
        """What is there now."""

    @abstractmethod
    def compare(self, actual: _R | None) -> Difference:
        """What has to change, or an error where the state cannot be reached."""

    @abstractmethod
    def create(self) -> _R | None:
        """Make what is not there; what is there then. RESOURCE_ALREADY_EXISTS where somebody was faster."""

    @abstractmethod
    def change(self, actual: _R, difference: Difference) -> _R | None:
        """Do to what is there what `difference` says; what is there then."""

    def keep(self) -> tuple[_R | None, Difference]:
        """Bring it into the wanted state; what is there then (in check mode: now), and what changed (would change)."""
        actual = self.find()
        difference = self.compare(actual)
        if not difference or self.check_mode:
            return actual, difference
        if actual is None:
            try:
                return self.create(), difference
            except MlflowError as error:
                actual = self.find() if error.code == "RESOURCE_ALREADY_EXISTS" else None
                if actual is None:
                    raise
                difference = self.compare(actual)  # somebody else was faster: compare with theirs
        return self.change(actual, difference) if difference else actual, difference


def ensure(
    kind: Callable[..., Entity[_R]], key: str, parameters: Mapping[str, Any], *, check_mode: bool
) -> dict[str, Any]:
    """A module: bring one thing into the state that `parameters` name; its result, with the thing under `key`."""
    with Client(server_of(parameters), parameters["timeout"]) as client:
        actual, difference = kind(client, parameters, check_mode=check_mode).keep()
        return {key: actual.result() if actual else None, **difference.result()}


def tags_of(given: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Tags as MLflow keeps them, which is as text; None removes one."""
    tags: dict[str, str | None] = {}
    for key, value in (given or {}).items():
        if isinstance(value, (dict, list)):
            raise MlopsError(f"The value of the tag {key!r} has to be text, not {value!r}: MLflow keeps tags as text")
        tags[str(key)] = None if value is None else str(value)
    return tags


def compare_part(
    difference: Difference, name: str, actual: Mapping[str, Any] | None, wanted: Mapping[str, Any]
) -> None:
    """Note under `name` the keys of `wanted` that differ; the others are left alone."""
    part = Difference.between(actual or {}, wanted)
    if part:
        difference.compare(name, part.before, part.after)


def change_part(
    difference: Difference, name: str, put: Callable[[str, Any], None], remove: Callable[[str], None]
) -> None:
    """Do what `compare_part` noted: `put` a value under its key, `remove` the keys that have none."""
    for key, value in difference.after.get(name, {}).items():
        if value is None:
            remove(key)
        else:
            put(key, value)


def first(limit: int, read: Callable[[int], list[_T]]) -> tuple[list[_T], bool]:
    """At most `limit` of what `read` lists, and whether there are more."""
    if limit < 1:
        raise MlopsError(f"limit has to be at least 1, not {limit}")
    items = read(limit + 1)
    return items[:limit], len(items) > limit
