# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How runs are searched for, and what may not be kept of one; real runs are in tests/integration."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import Client, Run
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_run import KeptRun, condition
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import Server


@pytest.mark.parametrize(
    ("given", "name", "parent", "expected"),
    [
        (None, None, None, ""),
        (" ", None, None, ""),
        ("metrics.a > 1", None, "p", "metrics.a > 1 AND tags.`mlflow.parentRunId` = 'p'"),
        (None, "it's", None, 'attributes.run_name = "it\'s"'),
        (None, 'a "b"', "p", "attributes.run_name = 'a \"b\"' AND tags.`mlflow.parentRunId` = 'p'"),
    ],
)
def test_conditions(given: str | None, name: str | None, parent: str | None, expected: str) -> None:
    assert condition(given, name=name, parent=parent) == expected


@pytest.mark.parametrize(("tag", "option"), [("mlflow.runName", "name"), ("mlflow.parentRunId", "parent")])
def test_tags_that_say_which_run_is_meant(tag: str, option: str) -> None:
    parameters = {"experiment": "e", "name": "n", "parent": None, "state": "present", "tags": {tag: "x"}}
    with pytest.raises(MlopsError, match=f"give `{option}`"):
        KeptRun(Client(Server("http://mlflow.local")), parameters, check_mode=False)


def test_a_run_of_an_old_server_has_neither_models_nor_datasets() -> None:
    run = Run.of({"info": {"run_id": "1", "run_name": "x", "status": "RUNNING"}, "data": {}}).result()
    assert (run["models"], run["datasets"], run["end_time"], run["parent"]) == ([], [], None, None)
