# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to change in an experiment; that it then does is in tests/integration."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import Experiment
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_experiment import compare


def existing(*, deleted: bool = False) -> Experiment:
    return Experiment("7", "x", "mlflow-artifacts:/7", deleted=deleted, tags={"a": "1"}, created=1, updated=1)


def wanted(state: str, location: str | None = None) -> dict[str, Any]:
    return {"name": "x", "state": state, "artifact_location": location}


@pytest.mark.parametrize(
    ("actual", "state", "tags", "before", "after"),
    [
        (None, "present", {}, {"lifecycle_stage": None}, {"lifecycle_stage": "active"}),
        (existing(), "present", {"a": "1", "b": None}, {}, {}),
        (existing(), "present", {"a": "2"}, {"tags": {"a": "1"}}, {"tags": {"a": "2"}}),
        (existing(), "present", {"a": None}, {"tags": {"a": "1"}}, {"tags": {"a": None}}),
        (existing(), "restored", {"b": "2"}, {"tags": {"b": None}}, {"tags": {"b": "2"}}),
        (existing(deleted=True), "restored", {}, {"lifecycle_stage": "deleted"}, {"lifecycle_stage": "active"}),
        (existing(), "absent", {"a": "2"}, {"lifecycle_stage": "active"}, {"lifecycle_stage": "deleted"}),
        (existing(deleted=True), "absent", {}, {}, {}),
        (None, "absent", {}, {}, {}),
    ],
)
def test_what_differs(
    actual: Experiment | None, state: str, tags: dict[str, str | None], before: dict[str, Any], after: dict[str, Any]
) -> None:
    difference = compare(actual, wanted(state), tags)
    assert (difference.before, difference.after) == (before, after)


@pytest.mark.parametrize(
    ("actual", "parameters", "expected"),
    [
        (None, wanted("restored"), "none of that name"),
        (existing(deleted=True), wanted("present"), "state=restored.*mlflow gc --experiment-ids 7"),
        (existing(), wanted("present", "s3://bucket/x"), "mlflow-artifacts:/7.*s3://bucket/x"),
        (existing(deleted=True), wanted("restored", "s3://bucket/x"), "cannot move them"),
    ],
)
def test_what_cannot_be_reached(actual: Experiment | None, parameters: dict[str, Any], expected: str) -> None:
    with pytest.raises(MlopsError, match=expected):
        compare(actual, parameters, {})


def test_the_same_place_with_a_slash_is_the_same() -> None:
    assert not compare(existing(), wanted("present", "mlflow-artifacts:/7/"), {})
