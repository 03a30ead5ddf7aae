# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models, versions, runs and files as the modules keep them; the real `mlflow` package says what came of it."""

from __future__ import annotations

import hashlib
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _mlflow_artifact as artifact
from ansible_collections.mlops.mlflow.plugins.module_utils import _mlflow_model_version as model_version
from ansible_collections.mlops.mlflow.plugins.module_utils import _mlflow_run as run
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_entity import ensure
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_registered_model import KeptModel
from mlflow_server import Running, options, play


@dataclass(frozen=True)
class Trained:
    """A run with all that a run can have."""

    experiment: str
    experiment_id: str
    run_id: str
    model_id: str


@pytest.fixture(scope="module")
def trained(server: Running) -> Trained:
    from mlflow.entities import Dataset, DatasetInput, LoggedModelOutput, Metric, Param  # noqa: PLC0415  1.7 s

    experiment = server.real.create_experiment("Anomaly Detection")
    made = server.real.create_run(experiment, run_name="trained").info.run_id
    metrics = [Metric("loss", 0.5, 1, 0), Metric("loss", 0.25, 2, 1), Metric("zero", 0, 1, 0)]
    metrics.append(Metric("diverged", float("nan"), 1, 0))
    server.real.log_batch(made, metrics, [Param("depth", "3")])
    server.real.log_inputs(made, [DatasetInput(Dataset("ab.csv", "1234", "local", "{}"))])
    model = server.real.create_logged_model(experiment, name="model", source_run_id=made)
    server.real.finalize_logged_model(model.model_id, "READY")
    server.real.log_outputs(made, [LoggedModelOutput(model.model_id, 2)])
    server.real.set_terminated(made)
    return Trained("Anomaly Detection", experiment, made, model.model_id)


TASKS = """
    - mlops.mlflow.mlflow_registered_model: &model
        {name: &name "it's a detector", description: finds it, tags: {team: research, level: 3}}
      check_mode: true
      register: model_foreseen
    - mlops.mlflow.mlflow_registered_model: *model
      register: model
    - mlops.mlflow.mlflow_registered_model: *model
      register: model_again
    - mlops.mlflow.mlflow_registered_model: {name: *name, description: "", tags: {level: null, owner: ada}}
      register: model_changed
    - mlops.mlflow.mlflow_model_version: &version
        {name: *name, source: "runs:/{{ run_id }}/model", aliases: [champion, first], tags: {a: 1}, description: one}
      register: version
    - mlops.mlflow.mlflow_model_version: *version
      register: version_again
    - mlops.mlflow.mlflow_model_version: &second {name: *name, source: "models:/{{ model_id }}", aliases: [champion]}
      check_mode: true
      register: second_foreseen
    - mlops.mlflow.mlflow_model_version: *second
      register: second
    - mlops.mlflow.mlflow_model_version: *second
      register: second_again
    - mlops.mlflow.mlflow_model_version: &first
        {name: *name, version: 1, tags: {a: null}, aliases: [old], aliases_absent: [first, champion]}
      register: first
    - mlops.mlflow.mlflow_model_version: *first
      register: first_again
    - mlops.mlflow.mlflow_model_version: {name: *name, alias: old, state: absent}
      register: first_removed
    - mlops.mlflow.mlflow_model_version: {name: *name, alias: old, state: absent}
      register: first_removed_again
    - mlops.mlflow.mlflow_run: &run {experiment: Anomaly Detection, name: sweep, tags: {settings: 2, left: x}}
      check_mode: true
      register: run_foreseen
    - mlops.mlflow.mlflow_run: *run
      register: run
    - mlops.mlflow.mlflow_run: *run
      register: run_again
    - mlops.mlflow.mlflow_run:
        {experiment: Anomaly Detection, name: trained, parent: "{{ run.run.id }}", status: FAILED}
      register: child
    - mlops.mlflow.mlflow_run: {experiment: Anomaly Detection, name: sweep, status: FINISHED, tags: {left: null}}
      register: run_closed
    - mlops.mlflow.mlflow_run_info: {experiment: Anomaly Detection, parent: "{{ run.run.id }}"}
      register: children
    - mlops.mlflow.mlflow_artifact: &file {src: "{{ src }}", path: "3/data sets/ab ü.csv"}
      check_mode: true
      register: file_foreseen
    - mlops.mlflow.mlflow_artifact: *file
      register: file
    - mlops.mlflow.mlflow_artifact: *file
      register: file_again
    - mlops.mlflow.mlflow_artifact: {path: "3/data sets/ab ü.csv", state: absent}
      register: file_removed
    - mlops.mlflow.mlflow_artifact: {path: "3/data sets/ab ü.csv", state: absent}
      register: file_removed_again
"""


def test_what_one_play_keeps(server: Running, trained: Trained, tmp_path: Path) -> None:
    src = tmp_path / "ab.csv"
    src.write_bytes(b"a,b\n" * 1000)
    results = play(server, tmp_path, TASKS, src=str(src), run_id=trained.run_id, model_id=trained.model_id)
    unchanged = {name for name, result in results.items() if not result["changed"]}
    assert unchanged == {name for name in results if name.endswith("_again")} | {"children"}
    for foreseen, done in (
        ("model_foreseen", "model"),
        ("second_foreseen", "second"),
        ("run_foreseen", "run"),
        ("file_foreseen", "file"),
    ):
        assert results[foreseen]["diff"] == results[done]["diff"]
    assert results["model_foreseen"]["registered_model"] is None
    assert_models(server, trained, results)
    assert_runs(server, trained, results)
    digest = hashlib.sha256(src.read_bytes()).hexdigest()
    assert results["file"]["diff"] == {
        "before": {"size": None, "sha256": None},
        "after": {"size": 4000, "sha256": digest},
    }
    assert results["file_again"]["uri"] == "mlflow-artifacts:/3/data sets/ab ü.csv"
    assert (results["file_again"]["size"], results["file_again"]["sha256"]) == (4000, digest)
    assert results["file_removed"]["size"] is None
    assert server.files() == []


def assert_models(server: Running, trained: Trained, results: dict[str, dict[str, Any]]) -> None:
    name = "it's a detector"
    real = server.real.get_registered_model(name)
    (second,) = server.real.search_model_versions(f'name = "{name}"')
    assert results["model"]["diff"]["after"] == {
        "state": "present",
        "description": "finds it",
        "tags": {"team": "research", "level": "3"},
    }
    assert results["model_changed"]["diff"]["after"] == {"description": "", "tags": {"level": None, "owner": "ada"}}
    kept = results["model_changed"]["registered_model"]
    assert (kept["description"], kept["tags"]) == (real.description or "", real.tags)
    assert results["version"]["model_version"]["run_id"] == trained.run_id
    assert results["second"]["diff"] == {
        "before": {"version": None, "source": None, "aliases": {"champion": 1}},
        "after": {"version": "new", "source": f"models:/{trained.model_id}", "aliases": {"champion": "new"}},
    }
    assert results["first"]["diff"] == {
        "before": {"tags": {"a": "1"}, "aliases": {"first": 1, "old": None}},
        "after": {"tags": {"a": None}, "aliases": {"first": None, "old": 1}},
    }
    assert results["first_removed"]["diff"]["before"] == {"version": 1, "aliases": {"old": 1}}
    assert results["second_again"]["model_version"] == {
        "name": name,
        "version": int(second.version),
        "description": "",
        "source": second.source,
        "run_id": trained.run_id,
        "status": second.status,
        "status_message": "",
        "tags": second.tags,
        "aliases": ["champion"],
        "creation_time": second.creation_timestamp,
        "last_update_time": second.last_updated_timestamp,
    }
    assert real.aliases == {"champion": "2"}
    assert server.real.get_model_version_download_uri(name, "2").endswith(f"{trained.model_id}/artifacts")


def assert_runs(server: Running, trained: Trained, results: dict[str, dict[str, Any]]) -> None:
    kept = results["run_closed"]["run"]
    real = server.real.get_run(kept["id"])
    assert results["run"]["run"]["status"] == "RUNNING"
    assert results["run"]["run"]["end_time"] is None
    assert results["run_closed"]["diff"] == {
        "before": {"status": "RUNNING", "tags": {"left": "x"}},
        "after": {"status": "FINISHED", "tags": {"left": None}},
    }
    assert (kept["status"], kept["tags"], kept["end_time"]) == (real.info.status, real.data.tags, real.info.end_time)
    (child,) = results["children"]["runs"]
    assert child == results["child"]["run"]
    assert (child["parent"], child["status"]) == (kept["id"], "FAILED")
    assert child["id"] != trained.run_id


# What follows calls the modules' own functions, which is a hundred times faster than a task.


def keep_model(server: Running, **wanted: Any) -> dict[str, Any]:
    defaults = {"state": "present", "description": None, "tags": {}, "timeout": 10}
    return ensure(KeptModel, "registered_model", options(server.url) | defaults | wanted, check_mode=False)


def keep_version(server: Running, *, check_mode: bool = False, **wanted: Any) -> dict[str, Any]:
    defaults = dict.fromkeys(("version", "alias", "source", "run_id", "description")) | {"state": "present", "tags": {}}
    defaults |= {"aliases": [], "aliases_absent": [], "timeout": 10, "ready_timeout": 1}
    parameters = options(server.url) | defaults | wanted
    return ensure(model_version.KeptVersion, "model_version", parameters, check_mode=check_mode)


def keep_run(server: Running, *, check_mode: bool = False, **wanted: Any) -> dict[str, Any]:
    defaults = {"state": "present", "status": None, "parent": None, "tags": {}, "timeout": 10}
    return ensure(run.KeptRun, "run", options(server.url) | defaults | wanted, check_mode=check_mode)


def read_runs(server: Running, **wanted: Any) -> dict[str, Any]:
    defaults = dict.fromkeys(("run_id", "experiment", "filter", "parent"))
    return run.read(
        options(server.url) | defaults | {"order_by": [], "view": "active", "limit": 9, "timeout": 9} | wanted
    )


def keep_file(server: Running, path: str, src: Path | None = None, *, check_mode: bool = False) -> dict[str, Any]:
    wanted = {"path": path, "src": src and str(src), "state": "present" if src else "absent", "timeout": 30}
    return artifact.ensure(options(server.url) | wanted, check_mode=check_mode)


def test_models_made_at_the_same_time(server: Running) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: keep_model(server, name="raced", tags={f"tag{n}": n}), range(8)))
    assert all(result["changed"] for result in results)
    assert set(server.real.get_registered_model("raced").tags) == {f"tag{n}" for n in range(8)}
    assert keep_model(server, name="raced", state="absent")["diff"]["after"] == {"state": "absent"}
    assert not keep_model(server, name="raced", state="absent")["changed"]


def test_versions_that_cannot_be_kept(server: Running, trained: Trained) -> None:
    source = f"runs:/{trained.run_id}/model"
    with pytest.raises(MlopsError, match="make it with mlflow_registered_model"):
        keep_version(server, name="none", source=source)
    assert keep_version(server, name="none", source=source, check_mode=True)["changed"]
    assert not keep_version(server, name="none", source=source, state="absent")["changed"]
    keep_model(server, name="twice")
    for _ in range(2):
        server.real.create_model_version("twice", source, trained.run_id)
    assert keep_version(server, name="twice", source=source)["model_version"]["version"] == 2
    with pytest.raises(MlopsError, match=r"Versions 1, 2 .* say by `version`"):
        keep_version(server, name="twice", source=source, state="absent")
    with pytest.raises(MlopsError, match="no version 3: the latest version is 2, aliases are none"):
        keep_version(server, name="twice", version=3)
    with pytest.raises(MlopsError, match="no alias best"):
        keep_version(server, name="twice", alias="best")
    with pytest.raises(MlopsError, match="give the number"):
        keep_version(server, name="twice", source="models:/twice@best")
    for version in (1, 2):
        assert keep_version(server, name="twice", version=version, state="absent")["model_version"] is None
    assert keep_version(server, name="twice", source=source, check_mode=True)["changed"]
    in_store = f"mlflow-artifacts:/{trained.experiment_id}/{trained.run_id}/artifacts/model"
    assert keep_version(server, name="twice", source=in_store, run_id=trained.run_id)["model_version"]["version"] == 3
    assert not keep_version(server, name="twice", source=in_store)["changed"]


def test_runs_of_one_name(server: Running, trained: Trained) -> None:
    wanted = {"experiment": trained.experiment, "name": 'say "it\'s"'}
    with pytest.raises(MlopsError, match="both kinds of quotes"):
        keep_run(server, **wanted)
    wanted["name"] = 'a "quoted" name'
    old, new = (server.real.create_run(trained.experiment_id, 1000 + n, run_name=wanted["name"]).info for n in range(2))
    assert keep_run(server, **wanted, tags={"a": 1})["run"]["id"] == new.run_id
    assert keep_run(server, **wanted, state="absent")["run"]["lifecycle_stage"] == "deleted"
    assert not keep_run(server, **wanted, state="absent")["changed"]
    assert {server.real.get_run(item.run_id).info.lifecycle_stage for item in (old, new)} == {"deleted"}
    assert {item["id"] for item in read_runs(server, experiment=trained.experiment, view="deleted")["runs"]} == {
        old.run_id,
        new.run_id,
    }
    with pytest.raises(MlopsError, match="there is no run none"):
        keep_run(server, **wanted, parent="none")
    with pytest.raises(MlopsError, match="does not exist: make it with mlflow_experiment"):
        keep_run(server, experiment="none", name="x")
    assert keep_run(server, experiment="none", name="x", check_mode=True)["changed"]
    assert not keep_run(server, experiment="none", name="x", state="absent")["changed"]


def test_searching_runs(server: Running, trained: Trained) -> None:
    wanted = {"experiment": trained.experiment, "filter": "params.depth = '3'"}
    found = read_runs(server, **wanted)
    assert found == {"changed": False, "runs": read_runs(server, run_id=trained.run_id)["runs"], "truncated": False}
    info = server.real.get_run(trained.run_id).info
    assert found["runs"][0] == {
        "id": trained.run_id,
        "name": "trained",
        "experiment_id": trained.experiment_id,
        "status": "FINISHED",
        "lifecycle_stage": "active",
        "start_time": info.start_time,
        "end_time": info.end_time,
        "artifact_uri": info.artifact_uri,
        "parent": None,
        "params": {"depth": "3"},
        "metrics": {"loss": 0.25, "zero": 0, "diverged": "NaN"},
        "tags": {"mlflow.runName": "trained"},
        "models": [{"id": trained.model_id, "step": 2}],
        "datasets": [{"name": "ab.csv", "digest": "1234"}],
    }
    other = server.real.create_run(trained.experiment_id, tags={"kind": "x"}).info.run_id
    better = server.real.create_run(trained.experiment_id, tags={"kind": "x"}).info.run_id
    server.real.log_metric(other, "accuracy", 0.1)
    server.real.log_metric(better, "accuracy", 0.2)
    order = {"experiment": trained.experiment, "filter": "tags.kind = 'x'", "order_by": ["metrics.accuracy DESC"]}
    assert [item["id"] for item in read_runs(server, **order)["runs"]] == [better, other]
    first = read_runs(server, **order, limit=1)
    assert ([item["id"] for item in first["runs"]], first["truncated"]) == ([better], True)
    assert read_runs(server, experiment="none")["runs"] == []
    with pytest.raises(MlopsError, match="There is no run none"):
        read_runs(server, run_id="none")
    with pytest.raises(MlopsError, match=r"MLflow at .* refused: Invalid"):
        read_runs(server, experiment=trained.experiment, filter="nonsense")


def test_a_large_file_is_never_in_memory(server: Running, tmp_path: Path) -> None:
    src = tmp_path / "large.bin"
    with src.open("wb") as file:
        file.truncate(40_000_000)
    tracemalloc.start()
    try:
        assert keep_file(server, "large.bin", src)["changed"]
        assert not keep_file(server, "large.bin", src)["changed"]
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    with src.open("r+b") as file:
        file.write(b"x")
    changed = keep_file(server, "large.bin", src, check_mode=True)["diff"]
    assert list(changed["after"]) == ["sha256"]
    assert keep_file(server, "large.bin", src)["diff"] == changed
    assert [path.read_bytes()[:2] for path in server.files()] == [b"x\0"]
    assert keep_file(server, "large.bin")["diff"]["before"] == {"size": 40_000_000}
    assert server.files() == []


def test_files_that_cannot_be_kept(server: Running, tmp_path: Path) -> None:
    src = tmp_path / "empty"
    src.touch()
    assert keep_file(server, "a/b/empty", src)["size"] == 0
    assert not keep_file(server, "a/b/empty", src)["changed"]
    for wanted in (src, None):
        with pytest.raises(MlopsError, match="is a directory of the artifact store"):
            keep_file(server, "a/b", wanted)
    with pytest.raises(MlopsError, match="No such file or directory"):
        keep_file(server, "a/b/empty", tmp_path / "none")
    assert keep_file(server, "a/b/empty")["changed"]
