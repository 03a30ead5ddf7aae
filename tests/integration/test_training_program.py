# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The training program against a real MLflow server; the real client says what it logged and registered.

It runs as its users run it where that matters, and in this process, without the seconds of its imports, elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import training
import training_data
from mlflow.entities import Run
from mlflow_server import Running
from rig import REPOSITORY

PROGRAM = REPOSITORY / "roles/training/files/training.py"
EXPERIMENT = "XGBoost and Logistic Regression Experiment"
MODELS = {"xgboost model": "XGBoostModel", "LogisticRegression model": "LogisticRegressionModel"}
ROWS, FRAUDS = 20_000, 300
GOOD: dict[str, Any] = {"xgboost": {"n_estimators": 40}}
WEAK: dict[str, Any] = {
    "xgboost": {"n_estimators": 1, "max_depth": 1},
    "logistic_regression": {"solver": "saga", "l1_ratio": 1, "C": 1e-9},  # leaves no coefficient
}


def settings(seed: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "experiment": EXPERIMENT,
        "digest": "0123abcd",
        "rows": ROWS,
        "frauds": FRAUDS,
        "data": {"source": "generated", "seed": seed},
        "precision": 0.9,
    } | changes


def start_program(
    command: str, directory: Path, url: str, told: dict[str, Any], **environment: str
) -> subprocess.Popen[str]:
    """The program in a process that knows the server's address and nothing else; its result is in result.json."""
    (directory / "settings.json").write_text(json.dumps(told))
    return subprocess.Popen(
        [sys.executable, "-B", str(PROGRAM), command, "--settings", "settings.json", "--result", "result.json"],
        cwd=directory,
        env={"MLFLOW_TRACKING_URI": url, "HOME": str(directory), "PATH": "/usr/bin:/bin"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_program(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    process = start_program(*arguments, **environment)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def call(command: str, told: dict[str, Any]) -> dict[str, Any]:
    """The result of a command that runs in this process."""
    return training.COMMANDS[command](training.Settings.model_validate_json(json.dumps(told)))


@pytest.fixture(autouse=True)
def address(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)


@pytest.fixture(scope="module")
def compared(server: Running, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of the first training on this server."""
    directory = tmp_path_factory.mktemp("compare")
    done = run_program("compare", directory, server.url, settings())
    assert (done.returncode, done.stderr) == (0, "")
    assert "xgboost model: trained in" in done.stdout
    text = (directory / "result.json").read_text()
    assert len(text) < 4000
    result: dict[str, Any] = json.loads(text)
    return result


def runs(server: Running, condition: str = "") -> list[Run]:
    experiment = server.real.get_experiment_by_name(EXPERIMENT)
    return list(server.real.search_runs([experiment.experiment_id], condition)) if experiment else []


def champions(server: Running) -> dict[str, int]:
    return {
        model.name: int(model.aliases["champion"])
        for model in server.real.search_registered_models()
        if "champion" in model.aliases
    }


def test_both_runs_carry_all_that_judges_them(server: Running, compared: dict[str, Any]) -> None:
    assert {run["name"]: run["model"] for run in compared["runs"]} == MODELS
    generated = training_data.load(training_data.Generated(source="generated", seed=1), ROWS, FRAUDS)
    for entry in compared["runs"]:
        run = server.real.get_run(entry["run_id"])
        assert (run.info.run_name, run.info.status) == (entry["name"], "FINISHED")
        metrics = run.data.metrics
        assert metrics.keys() == {
            *("accuracy", "recall_class_0", "recall_class_1", "f1_score_macro"),
            *("average_precision", "roc_auc", "recall_at_precision_90", "training_seconds"),
        }
        assert all(entry[name] == pytest.approx(value, abs=1e-6) for name, value in metrics.items())
        assert FRAUDS / ROWS * 10 < metrics["average_precision"] < 0.98
        assert run.data.tags["mlops.mlflow.training"] == "0123abcd"
        assert run.data.tags["mlops.mlflow.data"] == run.data.params["data"] == "generated (seed 1)"
        wanted = {
            "rows": "20000",
            "frauds": "300",
            "split_test_size": "0.3",
            "split_random_state": "1",
            "random_state": "1",
        }
        assert run.data.params.items() >= wanted.items()
        assert ("max_depth" in run.data.params) == (entry["model"] == "XGBoostModel")
        (used,) = run.inputs.dataset_inputs
        assert used.dataset.digest == run.data.tags["mlops.mlflow.data.digest"] == generated.digest
        assert run.data.tags["mlops.mlflow.test.digest"] == generated.test_digest


def test_pictures_and_predictions_are_there(server: Running, compared: dict[str, Any], tmp_path: Path) -> None:
    for entry in compared["runs"]:
        files = {item.path for item in server.real.list_artifacts(entry["run_id"])}
        pictures = {"confusion_matrix.png", "roc_curve.png", "precision_recall_curve.png"}
        assert files == {*pictures, "predictions.json"}
        for name in files:
            path = server.real.download_artifacts(entry["run_id"], name, str(tmp_path))
            assert name not in pictures or Path(path).read_bytes().startswith(b"\x89PNG")
        record = json.loads((tmp_path / "predictions.json").read_text())
        assert record["inputs"]["columns"] == training_data.FEATURES
        assert len(record["inputs"]["data"]) == len(record["predictions"]) > 150
        assert set(record["classes"]) == {0, 1}
        model = mlflow.pyfunc.load_model(f"models:/{entry['model']}/{entry['version']}", dst_path=str(tmp_path))
        found = model.predict(pd.DataFrame(**record["inputs"]))
        assert np.allclose(found, record["predictions"], atol=1e-6)
        assert 0 <= np.min(found) <= np.max(found) <= 1


def test_models_are_registered_with_signature_example_and_data(server: Running, compared: dict[str, Any]) -> None:
    for entry in compared["runs"]:
        version = server.real.get_model_version(entry["model"], str(entry["version"]))
        assert (version.status, version.run_id) == ("READY", entry["run_id"])
        assert "generated (seed 1)" in version.description
        assert version.tags["mlops.mlflow.data"] == "generated (seed 1)"
        info = mlflow.models.get_model_info(f"models:/{version.name}/{version.version}")
        assert info.signature.inputs.input_names() == training_data.FEATURES
        assert info.signature.outputs is not None
        assert info.saved_input_example_info is not None
        logged = server.real.get_logged_model(info.model_id)
        requirements = mlflow.artifacts.load_text(f"{logged.artifact_location}/requirements.txt").split()
        assert f"mlflow=={server.version}" in requirements
        assert {metric.key for metric in logged.metrics} >= {"average_precision", "roc_auc"}


def test_the_better_model_is_the_champion(server: Running, compared: dict[str, Any]) -> None:
    best = max(compared["runs"], key=lambda run: run["average_precision"])
    assert champions(server) == {best["model"]: best["version"]}
    assert compared["champion"] == {
        "model": best["model"],
        "version": best["version"],
        "average_precision": pytest.approx(best["average_precision"], abs=1e-6),
        "moved": True,
        "former": None,
        "reason": "there was no champion",
    }


def test_any_process_that_has_the_address_can_check_the_champion(
    server: Running, compared: dict[str, Any], tmp_path: Path
) -> None:
    done = run_program("check", tmp_path, server.url, settings())
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads((tmp_path / "result.json").read_text())
    assert champions(server) == {result["model"]: result["version"]}
    assert result["rows"] > 150
    assert result["difference"] <= 1e-6
    assert {path.name for path in tmp_path.iterdir()} <= {"settings.json", "result.json", ".cache", ".config"}


def test_the_alias_moves_to_the_better_only(server: Running, compared: dict[str, Any]) -> None:
    before = champions(server)
    worse = call("compare", settings(models=WEAK))["champion"]
    assert (worse["moved"], worse["former"]["version"]) == (False, 1)
    assert "is not better than" in worse["reason"]
    assert champions(server) == before

    for name in before:
        server.real.delete_registered_model_alias(name, "champion")
    server.real.set_registered_model_alias("LogisticRegressionModel", "champion", "2")
    better = call("compare", settings(models=GOOD))["champion"]
    assert (better["moved"], better["former"]["model"]) == (True, "LogisticRegressionModel")
    assert champions(server) == {better["model"]: better["version"]}


def test_two_champions_become_one(server: Running, compared: dict[str, Any]) -> None:
    """As a program leaves them that is killed between the two requests."""
    server.real.set_registered_model_alias("LogisticRegressionModel", "champion", "2")
    server.real.set_registered_model_alias("XGBoostModel", "champion", "1")
    with pytest.raises(
        training.TrainingError, match=r"belongs to one version, but here to XGB.* 1 and Log.* 2: train again"
    ):
        call("check", settings())
    call("compare", settings(models=WEAK))
    assert champions(server) == {"XGBoostModel": 1}


def test_a_champion_of_other_data_is_asked_for_these(server: Running, compared: dict[str, Any], tmp_path: Path) -> None:
    (path := tmp_path / "other.csv").write_text(training_data.generate(2, ROWS, FRAUDS).to_csv(index=False))
    server.real.log_artifact(compared["runs"][0]["run_id"], str(path), "datasets")
    uri = f"{server.real.get_run(compared['runs'][0]['run_id']).info.artifact_uri}/datasets/other.csv"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    source = {"source": "artifact", "uri": uri, "sha256": sha256, "name": "other.csv"}
    result = call("compare", settings(data=source, models=WEAK))
    assert result["data"] == f"other.csv, sha256 {sha256}"
    assert result["champion"]["moved"] is False
    assert "on these test rows" in result["champion"]["reason"]
    assert result["champion"]["average_precision"] != compared["champion"]["average_precision"]


@contextlib.contextmanager
def replaced(server: Running, content: bytes) -> Iterator[None]:
    """The champion's own file on the server is another one for a while."""
    ((name, version),) = champions(server).items()
    assert name == "XGBoostModel"
    file = model_file(server, version)
    original = file.read_bytes()
    file.write_bytes(content)
    yield
    file.write_bytes(original)


def model_file(server: Running, version: int) -> Path:
    source = server.real.get_model_version_download_uri("XGBoostModel", str(version))
    return server.directory / "artifacts" / source.removeprefix("mlflow-artifacts:/") / "model.ubj"


def test_a_champion_that_was_tampered_with_fails(server: Running, compared: dict[str, Any]) -> None:
    with (
        replaced(server, model_file(server, 2).read_bytes()),
        pytest.raises(
            training.TrainingError, match=r"does not predict what it predicted .* \d+ of \d+ rows differ, by 0"
        ),
    ):
        call("check", settings())
    with (
        replaced(server, b"nothing"),
        pytest.raises(training.TrainingError, match="XGBoostModel version 1 cannot be loaded and asked: "),
    ):
        call("check", settings())
    assert call("check", settings())["version"] == 1


def test_a_champion_that_cannot_be_loaded_is_replaced(server: Running, compared: dict[str, Any]) -> None:
    with replaced(server, b"nothing"):
        result = call("compare", settings(seed=3, models=WEAK))["champion"]
    assert result["moved"] is True
    assert "XGBoostModel version 1 cannot be used any more: " in result["reason"]
    assert result["former"] == {"model": "XGBoostModel", "version": 1, "average_precision": None}


def test_a_sweep(server: Running, compared: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    client, experiment = server.real, runs(server)[0].info.experiment_id
    parent = client.create_run(experiment, run_name="sweep").info.run_id
    tried = [
        {"model": "xgboost", "parameters": {"max_depth": 2, "n_estimators": 20}},
        {"model": "xgboost"},
        {"model": "logistic_regression", "parameters": {"C": 0.01}},
    ]
    told = settings(seed=4, models=GOOD, sweep={"parent": parent, "settings": tried})
    with pytest.raises(training.TrainingError, match="there is nothing to promote"):
        call("promote", told)
    cut_off = client.create_run(experiment, tags={"mlflow.parentRunId": parent, "mlops.mlflow.sweep.index": "1"})

    results = []
    for index in ("0", "1", "2", "0"):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", index)
        results.append(call("sweep", told))
    assert [result["kept"] for result in results] == [False, False, False, True]
    assert results[3]["runs"] == results[0]["runs"]
    assert client.get_run(cut_off.info.run_id).info.lifecycle_stage == "deleted"
    below = runs(server, f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {run.info.run_name for run in below} == {
        "xgboost max_depth=2 n_estimators=20",
        "xgboost",
        "logistic_regression C=0.01",
    }
    assert {run.info.status for run in below} == {"FINISHED"}
    assert not [version for run in below for version in client.search_model_versions(f"run_id = '{run.info.run_id}'")]

    promoted, again = call("promote", told), call("promote", told)
    best = max(below, key=lambda run: run.data.metrics["average_precision"])
    assert promoted["settings"] == {"finished": 3, "of": 3}
    assert [run["run_id"] for run in promoted["runs"]] == [best.info.run_id]
    assert len(client.search_model_versions(f"run_id = '{best.info.run_id}'")) == 1
    assert again["runs"] == promoted["runs"]
    assert (again["champion"]["moved"], promoted["champion"]["moved"]) == (False, True)  # over the weak one before
    summary = client.get_run(parent).data
    assert summary.metrics["average_precision"] == best.data.metrics["average_precision"]
    assert summary.metrics["settings"] == 3
    assert summary.tags["mlops.mlflow.sweep.best"] == best.info.run_id


@pytest.mark.parametrize("index", ["", "1", "x"])
def test_an_index_that_is_none(monkeypatch: pytest.MonkeyPatch, index: str) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", index)
    with pytest.raises(training.TrainingError, match=f"JOB_COMPLETION_INDEX is '{index}', but there are 1 settings"):
        call("sweep", settings(sweep={"parent": "x", "settings": [{"model": "xgboost"}]}))


def test_a_parent_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(training.TrainingError, match=r"the sweep's parent 'f{32}' is no run of this server"):
        call("promote", settings(sweep={"parent": "f" * 32, "settings": []}))


def test_nothing_is_logged_from_bad_data_or_parameters(
    server: Running, compared: dict[str, Any], tmp_path: Path
) -> None:
    (path := tmp_path / "bad.csv").write_text("Time,V1\n1,2\n")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    source = {"source": "file", "path": str(path), "sha256": sha256, "name": "bad.csv"}
    before = server.rows()
    done = run_program("compare", tmp_path, server.url, settings(data=source))
    assert done.returncode == 1
    assert done.stderr.startswith("training: bad.csv: no column V2, V3, ")
    assert done.stderr.count("\n") == 1
    with pytest.raises(training.TrainingError, match="cannot be trained with"):
        call("compare", settings(models={"logistic_regression": {"C": -1}}))
    assert server.rows() == before


def test_a_run_that_is_cut_off_is_marked_as_failed(server: Running, compared: dict[str, Any], tmp_path: Path) -> None:
    told = settings(models={"xgboost": {"n_estimators": 3000, "max_depth": 8}})
    with start_program("compare", tmp_path, server.url, told) as process:
        deadline = time.monotonic() + 60
        while not (running := runs(server, "attributes.status = 'RUNNING' and tags.`mlops.mlflow.model` = 'xgboost'")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.terminate()
        assert process.wait(20) == 143
    assert server.real.get_run(running[0].info.run_id).info.status == "FAILED"


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    done = run_program("check", tmp_path, "http://127.0.0.1:1", settings(), MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.returncode == 1
    assert done.stderr.startswith("training: MLflow at http://127.0.0.1:1: ")
    assert "Connection refused" in done.stderr
    assert done.stderr.count("\n") == 1
