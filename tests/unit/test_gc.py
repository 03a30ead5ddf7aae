# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes, what stays and what is answered, on a database and files of MLflow's own."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow_gc
import pytest
from mlflow.entities import RunTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, which takes MLflow seconds to make."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{path}", "mlflow-artifacts:/")
    return path


class Server:
    """What a tracking server keeps, without one."""

    def __init__(self, empty: Path, folder: Path) -> None:
        self.artifacts = folder / "artifacts"
        self.environment = {
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{shutil.copy(empty, folder)}",
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.artifacts),
        }
        uri = self.environment["MLFLOW_BACKEND_STORE_URI"]
        self.store = SqlAlchemyStore(uri, "mlflow-artifacts:/")
        self.registry = Registry(uri)

    def write(self, location: str, size: int) -> None:
        """A file at the location of artifacts."""
        path = self.artifacts / location.removeprefix("mlflow-artifacts:/") / "deep/file"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size))

    def run(self, experiment: str, size: int = 100) -> str:
        run = self.store.create_run(experiment, "me", 0, [RunTag("a", "b")], "some run")
        self.write(run.info.artifact_uri, size)
        return str(run.info.run_id)

    def model(self, experiment: str, size: int = 10) -> str:
        model = self.store.create_logged_model(experiment, "some-model")
        self.write(model.artifact_location, size)
        return str(model.model_id)

    def collect(self, action: str = "remove", older_than: str = "0s") -> dict[str, Any]:
        time.sleep(0.002)  # what was deleted in this millisecond is no older than nothing
        return mlflow_gc.collect(action, older_than, self.environment)

    @property
    def files(self) -> set[str]:
        return {str(path.relative_to(self.artifacts)) for path in self.artifacts.rglob("*")}


@pytest.fixture
def server(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server(empty, tmp_path)
    uri = made.environment["MLFLOW_BACKEND_STORE_URI"]
    for name, value in (made.environment | {"MLFLOW_TRACKING_URI": uri}).items():
        monkeypatch.setenv(name, value)
    return made


def ids(answer: Mapping[str, Any]) -> set[str]:
    return {item["id"] for item in answer["items"]}


def test_runs_and_models_go_with_their_directories(server: Server) -> None:
    living, dead = server.run("0"), server.run("0")
    kept, gone = server.model("0"), server.model("0")
    server.store.delete_run(dead)
    server.store.delete_logged_model(gone)
    before = server.files
    listed = server.collect("list")
    assert server.files == before
    assert (listed["runs"], listed["models"], listed["experiments"], listed["bytes"]) == (1, 1, 0, 110)
    assert server.collect() == listed
    assert ids(listed) == {dead, gone}
    assert server.files == {path for path in before if dead not in path and gone not in path}
    assert server.store.get_run(living).info.lifecycle_stage == "active"
    assert server.store.get_logged_model(kept).model_id == kept
    assert server.collect() == {"runs": 0, "models": 0, "experiments": 0, "kept": 0, "bytes": 0, "items": [], "more": 0}


def test_an_experiment_goes_with_all_that_lives_in_it(server: Server) -> None:
    living = server.run("0")
    gone = server.store.create_experiment("gone")
    run, model = server.run(gone), server.model(gone)
    server.write(f"mlflow-artifacts:/{gone}/traces/tr-1/artifacts", 7)
    server.store.delete_experiment(gone)
    found = server.collect()
    assert ids(found) == {gone, run, model}
    assert (found["experiments"], found["bytes"]) == (1, 117)
    assert {path.split("/")[0] for path in server.files} == {"0"}
    assert server.store.get_run(living).info.lifecycle_stage == "active"


def test_the_young_stay(server: Server) -> None:
    gone = server.store.create_experiment("gone")
    run = server.run(gone)
    server.store.delete_run(server.run("0"))
    server.store.delete_experiment(gone)
    assert ids(server.collect(older_than="1h")) == set()
    # Restored and deleted again, a run is younger than its experiment. `mlflow gc --older-than` fails there.
    time.sleep(1.5)
    server.store.restore_run(run)
    server.store.delete_run(run)
    found = server.collect(older_than="1s")
    assert (gone in ids(found), run in ids(found), found["kept"], found["runs"]) == (False, False, 1, 1)


def test_what_a_registered_version_needs_stays(server: Server) -> None:
    gone = server.store.create_experiment("gone")
    run, other, model = server.run("0"), server.run("0"), server.model(gone)
    for name, source, by in (
        ("by-run", "/elsewhere", run),
        ("by-place", f"mlflow-artifacts:/0/{other}/artifacts/deep", None),
        ("by-model", f"models:/{model}", None),
    ):
        server.registry.create_registered_model(name)
        server.registry.create_model_version(name, source, by)
    server.store.delete_run(run)
    server.store.delete_run(other)
    server.store.delete_experiment(gone)
    before = server.files
    found = server.collect()
    assert (found["items"], found["kept"]) == ([], 3)
    assert server.files == before
    server.registry.delete_model_version("by-run", "1")
    assert ids(server.collect()) == {run}


def test_a_shared_place_of_an_experiment_stays(server: Server) -> None:
    gone = server.store.create_experiment("gone", artifact_location="mlflow-artifacts:/shared")
    run = server.run(gone)
    server.write("mlflow-artifacts:/shared/others", 5)
    server.store.delete_experiment(gone)
    assert ids(server.collect()) == {gone, run}
    assert server.files == {"shared", "shared/others", "shared/others/deep", "shared/others/deep/file"}


def test_the_answer_fits_into_a_termination_message() -> None:
    item = mlflow_gc.Item("run", "a" * 32, "n\u00e4me" * 30, "0", 1, "")
    told = mlflow_gc.answer(mlflow_gc.Plan([item] * 1000))
    assert len(json.dumps(told).encode()) < 4096
    assert told["runs"] == 1000
    assert len(told["items"]) + told["more"] == 1000
    assert len(told["items"]) > 5


@pytest.mark.parametrize(
    ("age", "expected"), [("30d", 2_592_000_000), ("1d12h", 129_600_000), ("1.5m2s", 92_000), ("0s", 0)]
)
def test_ages(age: str, expected: int) -> None:
    assert mlflow_gc.milliseconds(age) == expected


@pytest.mark.parametrize("age", ["", "30", "d", "1w", "2h1d"])
def test_what_is_no_age(age: str) -> None:
    with pytest.raises(ValueError, match="no age"):
        mlflow_gc.milliseconds(age)


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    environment = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/none.db", "MLFLOW_ARTIFACTS_DESTINATION": "/x"}
    with pytest.raises(FileNotFoundError, match="no database"):
        mlflow_gc.collect("list", "1d", environment)
