# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which version is meant, and waiting for one; real versions are in tests/integration."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _mlflow_model_version as module
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import ModelVersion, RegisteredModel
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_model_version import KeptVersion, origin


class FakeClient:
    """A registered model with one version, which has the statuses one after the other."""

    def __init__(self, *statuses: str, message: str = "") -> None:
        self.statuses = list(statuses)
        self.message = message

    def model(self, name: str) -> RegisteredModel:
        return RegisteredModel(name, "", {}, {"best": 1, "other": 2}, 2, None, None)

    def model_version(self, name: str, version: int) -> ModelVersion:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return ModelVersion(name, version, "", "s3://x", None, status, self.message, {}, ["best"], None, None)


def version(client: FakeClient | None = None, *, check_mode: bool = False, **wanted: Any) -> KeptVersion:
    defaults = {"name": "x", "state": "present", "description": None, "tags": {}, "ready_timeout": 0.2}
    defaults |= {"aliases": [], "aliases_absent": [], "version": None, "alias": None, "source": None, "run_id": None}
    return KeptVersion(client or FakeClient("READY"), defaults | wanted, check_mode=check_mode)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("runs:/abc/model/deep", {"run_id": "abc"}),
        ("models:/m-12", {"model_id": "m-12"}),
        ("models:/x/3", {}),
        ("mlflow-artifacts:/1/abc/artifacts/model", {}),
        ("s3://bucket/runs:/abc", {}),
    ],
)
def test_what_a_source_comes_from(source: str, expected: dict[str, str]) -> None:
    assert origin(source) == expected
    version(source=source)


@pytest.mark.parametrize("source", ["models:/x@best", "models:/x/latest", "models:/x/Production", "models://x/3a"])
def test_sources_that_move(source: str) -> None:
    with pytest.raises(MlopsError, match="may mean another version tomorrow"):
        version(source=source)


def test_an_alias_that_is_wanted_and_not() -> None:
    with pytest.raises(MlopsError, match="'a' is in aliases and in aliases_absent"):
        version(version=1, aliases=["b", "a"], aliases_absent=["a"])


def test_aliases_move_here_and_leave_only_this_version() -> None:
    kept = version(alias="best", aliases=["other", "best"], aliases_absent=["gone"])
    assert kept.compare(kept.find()).after == {"aliases": {"other": 1}}
    kept = version(version=1, aliases_absent=["best", "other"])
    difference = kept.compare(kept.find())
    assert (difference.before, difference.after) == ({"aliases": {"best": 1}}, {"aliases": {"best": None}})


def test_a_version_that_is_not_ready_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_INTERVAL", 0.01)
    found = version(FakeClient("PENDING_REGISTRATION", "PENDING_REGISTRATION", "READY"), version=1).find()
    assert found
    assert found.status == "READY"
    with pytest.raises(MlopsError, match=r"not ready after 0.2 s. Raise ready_timeout"):
        version(FakeClient("PENDING_REGISTRATION"), version=1).find()
    found = version(FakeClient("PENDING_REGISTRATION", "READY"), version=1, check_mode=True).find()
    assert found
    assert found.status == "PENDING_REGISTRATION"


def test_a_version_that_failed() -> None:
    client = FakeClient("FAILED_REGISTRATION", message="the bucket is gone")
    with pytest.raises(MlopsError, match=r"is FAILED_REGISTRATION. MLflow says: the bucket is gone. Remove it"):
        version(client, version=1).find()
    assert version(client, version=1, state="absent").find()
