# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The training program without a server: data, settings, metrics, and who becomes champion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import training_data as data
from training import Contender, Settings, decide, first_line, main, settings_of
from training_models import MODELS, metrics, pictures, sample

GOOD: dict[str, Any] = {
    "experiment": "Fraud",
    "digest": "abc",
    "rows": 1000,
    "frauds": 50,
    "data": {"source": "generated", "seed": 1},
    "models": {"xgboost": {"max_depth": 3}},
    "precision": 0.9,
    "sweep": {"parent": "p", "settings": [{"model": "xgboost"}]},
}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return data.generate(1, 1000, 50)


def test_the_generator_makes_the_schema_and_the_imbalance(frame: pd.DataFrame) -> None:
    assert list(frame) == data.COLUMNS
    assert (len(frame), frame["Class"].sum()) == (1000, 50)
    assert frame["Time"].is_monotonic_increasing
    assert frame["Time"].between(0, 172_792).all()
    assert (frame["Amount"] >= 0).all()
    assert frame["Amount"].equals(frame["Amount"].round(2))
    spread = data.generate(2, 50_000, 80)[list(data.COMPONENTS)].std()
    assert spread["V1"] == pytest.approx(1.96, rel=0.05)
    assert spread["V28"] == pytest.approx(0.33, rel=0.05)


def test_the_generator_makes_the_same_from_the_same_seed(frame: pd.DataFrame) -> None:
    """The digest holds on every machine: it is what tells two data sets apart there."""
    assert data.digest(frame) == "7995b661379c113de6799a0d3c50ce2d"
    assert data.digest(data.generate(1, 1000, 50)) == data.digest(frame)
    assert data.digest(data.generate(2, 1000, 50)) != data.digest(frame)


def test_the_digest_covers_every_value(frame: pd.DataFrame) -> None:
    changed = frame.copy()
    changed.loc[777, "V13"] += 1e-9
    assert len({data.digest(frame), data.digest(changed), data.digest(frame.rename(columns={"V1": "W1"}))}) == 3


def file(path: Path, content: bytes, sha256: str | None = None) -> data.File:
    path.write_bytes(content)
    found = sha256 or hashlib.sha256(content).hexdigest()
    return data.File(source="file", path=path, sha256=found, name="creditcard.csv")


def test_a_file_is_read_to_the_last_bit_whatever_the_order_of_its_columns(frame: pd.DataFrame, tmp_path: Path) -> None:
    shuffled = frame[["Class", *reversed(data.COLUMNS[:-1])]]
    source = file(tmp_path / "a.csv", shuffled.to_csv(index=False).encode())
    assert data.digest(data.read(source.path, source, 1000, 50)) == data.digest(frame)
    loaded = data.load(source, 1000, 50)
    assert (len(loaded.train), len(loaded.test)) == (700, 300)
    assert loaded.test_digest == data.load(data.Generated(source="generated", seed=1), 1000, 50).test_digest


def test_kaggles_own_quotes_are_read(frame: pd.DataFrame, tmp_path: Path) -> None:
    quoted = frame.astype({"Class": str}).to_csv(index=False, quoting=2)  # "Time" and "0", as in creditcard.csv
    source = file(tmp_path / "a.csv", quoted.encode())
    assert data.digest(data.read(source.path, source, 1000, 50)) == data.digest(frame)


def spoil(column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        changed = frame.astype({column: object})
        changed.loc[[4, 7], column] = value
        return changed

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns=["V3", "Amount"]), r"no column V3, Amount$"),
        (lambda frame: frame.rename(columns={"V17": "V71"}), r"no column V17; columns that do not belong there: V71$"),
        (spoil("V3", None), r"column V3 has 2 rows without a value, the first in line 6$"),
        (spoil("V5", "abc"), r"column V5 has 2 rows without a number, the first in line 6$"),
        (spoil("Amount", "inf"), r"column Amount has 2 rows with an infinite number, the first in line 6$"),
        (spoil("Class", 2), r"column Class has 2 rows with neither 0 nor 1, the first in line 6"),
        (lambda frame: frame.head(900), r"900 rows, not 1000; \d+ frauds \(Class 1\), not 50$"),
        (lambda frame: frame.assign(Class=0), r"0 frauds \(Class 1\), not 50$"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(
    frame: pd.DataFrame, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    source = file(tmp_path / "a.csv", change(frame).to_csv(index=False).encode())
    with pytest.raises(data.TrainingError, match=f"^creditcard.csv: .*{message}"):
        data.load(source, 1000, 50)


@pytest.mark.parametrize(
    ("content", "sha256", "message"),
    [
        (b"Time,V1\n", "0" * 64, "the sha256 of the file is [0-9a-f]{64}, not 0{64}$"),
        (b"", None, "not a CSV file: No columns"),
        (b"a,b\n1\n1,2,3\n", None, "not a CSV file: CSV parse error"),
        (b"a,b\n\xff\xfe,2\n", None, "no column Time"),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, content: bytes, sha256: str | None, message: str) -> None:
    with pytest.raises(data.TrainingError, match=message):
        data.load(file(tmp_path / "a.csv", content, sha256), 1000, 50)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    source = file(tmp_path / "a.csv", b"")
    source.path.unlink()
    with pytest.raises(data.TrainingError, match=r"cannot read .*a.csv: No such file"):
        data.load(source, 1000, 50)


def test_too_few_frauds_to_split() -> None:
    with pytest.raises(data.TrainingError, match="too few frauds"):
        data.load(data.Generated(source="generated", seed=1), 1000, 1)


def test_good_settings() -> None:
    settings = Settings.model_validate_json(json.dumps(GOOD))
    assert str(settings.data) == "generated (seed 1)"
    assert settings.sweep.settings[0].parameters == {}
    small = Settings.model_validate_json(json.dumps({k: v for k, v in GOOD.items() if k not in {"models", "sweep"}}))
    assert (small.models, small.sweep.settings) == ({}, [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": "1000"}, "rows: Input should be a valid integer"),
        ({"precision": 1}, "precision: Input should be less than 1"),
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"models": {"forest": {}}}, r"models.forest.*'xgboost' or 'logistic_regression'"),
        ({"data": {"source": "moon"}}, "data: .*'moon'"),
        (
            {"data": {"source": "file", "path": "/x", "sha256": "1", "name": "x"}},
            "data.file.sha256: String should match",
        ),
        ({"sweep": {"parent": "p", "settings": [{"model": "tree"}]}}, "sweep.settings.0.model"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(GOOD | changes))
    with pytest.raises(data.TrainingError, match=f"^bad settings: {message}") as caught:
        settings_of(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("xgboost", {"max_dept": 3}, "XGBoost has no parameter max_dept"),
        ("xgboost", {"max_depth": -7}, "XGBoost cannot be trained with .*max_depth"),
        ("logistic_regression", {"C": -1}, "Logistic regression cannot be trained with .*'C'"),
    ],
)
def test_bad_parameters_are_named(kind: Any, parameters: dict[str, Any], message: str) -> None:
    MODELS[kind].check({})
    with pytest.raises(data.TrainingError, match=message):
        MODELS[kind].check(parameters)


def test_metrics() -> None:
    classes = np.array([0] * 6 + [1] * 4)
    scores = np.array([0.1, 0.1, 0.2, 0.2, 0.3, 0.8, 0.4, 0.7, 0.9, 0.95])
    found = metrics(classes, scores, 0.9)
    assert found.keys() >= {"f1_score_macro", "average_precision", "roc_auc"}
    assert found["accuracy"] == 0.8
    assert found["recall_class_0"] == pytest.approx(5 / 6)
    assert found["recall_class_1"] == 0.75
    assert found["recall_at_precision_90"] == 0.5  # 0.9 and up: two of four, no mistake
    assert metrics(classes, scores, 0.925)["recall_at_precision_92.5"] == 0.5
    assert metrics(classes, scores, 0.75)["recall_at_precision_75"] == 1


def test_the_sample_has_rows_of_all_kinds() -> None:
    classes = np.array([0] * 1000 + [1] * 30)
    scores = np.linspace(0, 1, 1030)
    chosen = sample(classes, scores)
    assert len(chosen) == len(set(chosen)) == 130
    assert set(range(1000, 1030)) < set(chosen)
    assert {0, 999} < set(chosen)


def test_pictures(tmp_path: Path) -> None:
    pictures(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.5, 0.9]), "a model, some data", tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files.keys() == {"confusion_matrix.png", "roc_curve.png", "precision_recall_curve.png"}
    assert all(content.startswith(b"\x89PNG") for content in files.values())


CHAMPION = Contender("XGBoostModel", 3, 0.8)


@pytest.mark.parametrize(
    ("candidate", "former", "expected"),
    [
        (CHAMPION, None, (True, "there was no champion")),
        (CHAMPION, CHAMPION, (False, "it is the champion already")),
        (
            Contender("LogisticRegressionModel", 3, 0.81),
            CHAMPION,
            (True, "is better than XGBoostModel version 3 (0.8000)"),
        ),
        (Contender("XGBoostModel", 4, 0.8), CHAMPION, (False, "is not better than")),
        (
            Contender("XGBoostModel", 4, 0.1),
            Contender("XGBoostModel", 3, None, ": gone"),
            (True, "version 3 cannot be used any more: gone"),
        ),
    ],
)
def test_who_becomes_champion(candidate: Contender, former: Contender | None, expected: tuple[bool, str]) -> None:
    moved, reason = decide(candidate, former)
    assert moved is expected[0]
    assert expected[1] in reason


def test_of_a_failed_connection_the_cause_is_told() -> None:
    urllib3 = "<urllib3.connection.HTTPConnection object at 0x7f>: Failed to establish: [Errno 111] Connection refused"
    error = OSError(f"API request failed: Max retries exceeded (Caused by NewConnectionError('{urllib3}'))\nmore")
    assert first_line(error) == "Failed to establish: [Errno 111] Connection refused"
    assert first_line(ValueError("\n one \n two")) == " one "
    assert first_line(KeyError()) == "KeyError"


def test_no_server_and_no_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pytest's own stays
    arguments = ["check", "--settings", str(tmp_path / "none.json"), "--result", str(tmp_path / "result.json")]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(arguments) == 1
    assert capsys.readouterr().err == "training: MLFLOW_TRACKING_URI does not say where the tracking server is\n"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert main(arguments) == 1
    assert "cannot read the settings" in capsys.readouterr().err
