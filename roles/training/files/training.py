# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the two models on card transactions, log and register them, and keep the alias `champion` on the best.

training.py compare|sweep|promote|check --settings FILE --result FILE, with the tracking server in MLFLOW_TRACKING_URI.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from pydantic import Field, PositiveInt, ValidationError
from requests import RequestException
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits
from training_data import FEATURES, SPLIT, TARGET, Data, Source, Strict, TrainingError, load
from training_models import CPUS, MODELS, THRESHOLD, Kind, Model, metrics, pictures, probabilities, sample

CHAMPION = "champion"
TOLERANCE = 1e-6  # of a probability; machines differ in the last bits

# Tags of runs and of the registry's versions.
TRAINING = "mlops.mlflow.training"
DATA = "mlops.mlflow.data"
DATA_DIGEST = "mlops.mlflow.data.digest"
TEST_DIGEST = "mlops.mlflow.test.digest"
AVERAGE_PRECISION = "mlops.mlflow.average_precision"
MODEL = "mlops.mlflow.model"
INDEX = "mlops.mlflow.sweep.index"
BEST = "mlops.mlflow.sweep.best"
PARENT = "mlflow.parentRunId"

Parameters = dict[str, bool | int | float | str | None]
Result = dict[str, Any]

_START = time.monotonic()


class Setting(Strict):
    """What one run of a sweep tries."""

    model: Kind
    parameters: Parameters = Field(default_factory=dict)


class Sweep(Strict):
    """The run that holds the others, and what they try."""

    parent: str
    settings: list[Setting]


class Settings(Strict):
    """What the program is told."""

    experiment: str = Field(min_length=1)
    digest: str = Field(min_length=1)
    rows: PositiveInt
    frauds: PositiveInt
    data: Source
    models: dict[Kind, Parameters] = Field(default_factory=dict)
    precision: Annotated[float, Field(gt=0, lt=1)]
    sweep: Sweep = Sweep(parent="", settings=[])

    @cached_property
    def loaded(self) -> Data:
        """The transactions, read when they are first needed."""
        data = load(self.data, self.rows, self.frauds)
        say(f"{self.rows} rows, {self.frauds} frauds: {data.source}; digest {data.digest}")
        return data


def say(text: str) -> None:
    """Tell what happened, and how long the program runs."""
    print(f"{time.monotonic() - _START:6.1f} s  {text}", flush=True)


def compare(settings: Settings) -> Result:
    """Train both models, register them, and promote the better."""
    chosen = {kind: settings.models.get(kind, {}) for kind in MODELS}
    for kind, parameters in chosen.items():
        MODELS[kind].check(parameters)
    data = settings.loaded
    experiment = mlflow.set_experiment(settings.experiment).experiment_id
    runs = [
        train(settings, kind, parameters, name=MODELS[kind].run, experiment=experiment, tags={})
        for kind, parameters in chosen.items()
    ]
    versions = [register(run) for run in runs]
    return {
        "data": str(data.source),
        "runs": [described(run, version) for run, version in zip(runs, versions, strict=True)],
        "champion": promotion(settings, max(versions, key=recorded)),
    }


def sweep(settings: Settings) -> Result:
    """Train the setting of this pod's index, once: what an attempt that was cut off left is deleted."""
    index = os.environ.get("JOB_COMPLETION_INDEX", "")
    if not index.isdecimal() or int(index) >= len(settings.sweep.settings):
        raise TrainingError(f"JOB_COMPLETION_INDEX is {index!r}, but there are {len(settings.sweep.settings)} settings")
    setting = settings.sweep.settings[int(index)]
    extra = settings.models.get(setting.model, {}) | setting.parameters
    MODELS[setting.model].check(extra)

    parent = parent_run(settings)
    former = children(parent, f"tags.`{INDEX}` = '{index}'")
    kept = next((run for run in former if run.info.status == "FINISHED"), None)
    for run in former:
        if run.info.status != "FINISHED":
            say(f"deleting run {run.info.run_id}, which an earlier attempt left {run.info.status}")
            discard(run)
    if kept:
        say(f"setting {index} is trained already")
    words = [f"{name}={value}" for name, value in sorted(setting.parameters.items())]
    name = " ".join([setting.model, *words])[:250]
    tags = {INDEX: index, PARENT: parent.info.run_id}
    run = kept or train(settings, setting.model, extra, name=name, experiment=parent.info.experiment_id, tags=tags)
    return {"data": str(settings.data), "index": int(index), "kept": kept is not None, "runs": [described(run)]}


def promote(settings: Settings) -> Result:
    """Register the best run of the sweep, tell it on the parent, and promote it."""
    parent = parent_run(settings)
    finished = children(parent, "attributes.status = 'FINISHED'")
    if not finished:
        raise TrainingError(f"no run below {parent.info.run_id} is finished: there is nothing to promote")
    best = max(finished, key=lambda run: run.data.metrics["average_precision"])
    version = register(best)
    if parent.data.tags.get(BEST) != best.info.run_id:
        client = MlflowClient()
        for name, value in best.data.metrics.items():
            client.log_metric(parent.info.run_id, name, value)
        client.log_metric(parent.info.run_id, "settings", len(settings.sweep.settings))
        for tag in (DATA, DATA_DIGEST, TEST_DIGEST):
            client.set_tag(parent.info.run_id, tag, best.data.tags[tag])
        client.set_tag(parent.info.run_id, BEST, best.info.run_id)  # the last: it tells that the others are there
    return {
        "data": str(settings.data),
        "settings": {"finished": len(finished), "of": len(settings.sweep.settings)},
        "runs": [described(best, version)],
        "champion": promotion(settings, version),
    }


def check(_settings: Settings) -> Result:
    """Load the champion as anyone would, and compare what it predicts with what it predicted when it was trained."""
    holders = champions()
    if len(holders) != 1:
        names = " and ".join(f"{version.name} version {version.version}" for version in holders) or "none"
        raise TrainingError(f"the alias {CHAMPION} belongs to one version, but here to {names}: train again")
    (version,) = holders
    who = f"{version.name} version {version.version}"
    with TemporaryDirectory() as directory:
        path = mlflow.artifacts.download_artifacts(
            run_id=version.run_id, artifact_path="predictions.json", dst_path=directory
        )
        known = json.loads(Path(path).read_text(encoding="utf-8"))
        say(f"loading {who}")
        try:
            model = mlflow.pyfunc.load_model(f"models:/{version.name}@{CHAMPION}", dst_path=directory)
            found = np.asarray(model.predict(pd.DataFrame(**known["inputs"])))
        except Exception as error:
            raise TrainingError(f"{who} cannot be loaded and asked: {first_line(error)}") from error
    expected = np.asarray(known["predictions"])
    if found.shape != expected.shape:
        raise TrainingError(
            f"{who} answers in shape {found.shape}, but answered in {expected.shape} when it was trained"
        )
    differences = np.abs(found - expected)
    if not (differences <= TOLERANCE).all():  # NaN is not
        rows = np.count_nonzero(~(differences <= TOLERANCE).reshape(len(found), -1).all(axis=1))
        raise TrainingError(
            f"{who} does not predict what it predicted when it was trained: {rows} of {len(found)} rows differ, "
            f"by {differences.max():.3g} at most"
        )
    say(f"{len(found)} rows are predicted as they were")
    return {
        "model": version.name,
        "version": int(version.version),
        "run_id": version.run_id,
        "data": version.tags.get(DATA, ""),
        "rows": len(found),
        "difference": float(differences.max()),
    }


COMMANDS: Mapping[str, Callable[[Settings], Result]] = {
    "compare": compare,
    "sweep": sweep,
    "promote": promote,
    "check": check,
}


def train(
    settings: Settings, kind: Kind, extra: Parameters, *, name: str, experiment: str, tags: Mapping[str, str]
) -> Run:
    """One run: a model is trained, tested and logged with all that is needed to judge it."""
    model, data = MODELS[kind], settings.loaded
    parameters = model.parameters(extra)
    identity = {TRAINING: settings.digest, MODEL: kind, DATA: str(data.source), DATA_DIGEST: data.digest}
    identity[TEST_DIGEST] = data.test_digest
    with mlflow.start_run(experiment_id=experiment, run_name=name, tags={**identity, **tags}) as run:
        mlflow.log_params(
            parameters
            | {f"split_{key}": value for key, value in SPLIT.items()}
            | {"model": kind, "features": f"{FEATURES[0]} to {FEATURES[-1]}", "threshold": THRESHOLD, "cpus": CPUS}
            | {"data": str(data.source), "rows": settings.rows, "frauds": settings.frauds}
        )
        start = time.perf_counter()
        estimator = model.build(parameters).fit(data.train[FEATURES], data.train[TARGET])
        seconds = time.perf_counter() - start
        say(f"{name}: trained in {seconds:.1f} s")

        classes = data.test[TARGET].to_numpy()
        output = model.output(estimator, data.test[FEATURES])
        measured = metrics(classes, probabilities(output), settings.precision)
        say(f"{name}: average precision {measured['average_precision']:.4f}, ROC AUC {measured['roc_auc']:.4f}")

        logged = model.log(estimator, data.train[FEATURES].head())
        dataset = data.dataset()
        mlflow.log_input(dataset, context="training and test")
        mlflow.log_metrics(measured | {"training_seconds": seconds}, dataset=dataset, model_id=logged.model_id)
        log_files(model, data, output)
        say(f"{name}: logged as run {run.info.run_id}")
    return MlflowClient().get_run(run.info.run_id)


def log_files(model: Model, data: Data, output: np.ndarray[Any, Any]) -> None:
    """Log the pictures, and the predictions that the champion is checked against."""
    classes, scores = data.test[TARGET].to_numpy(), probabilities(output)
    chosen = sample(classes, scores)
    inputs = data.test[FEATURES].iloc[chosen]
    record = {
        "inputs": {"columns": FEATURES, "data": inputs.to_numpy().tolist()},
        "classes": classes[chosen].tolist(),
        "predictions": output[chosen].tolist(),
    }
    with TemporaryDirectory() as directory:
        pictures(classes, scores, f"{model.title}, {data.source}", Path(directory))
        (Path(directory) / "predictions.json").write_text(json.dumps(record), encoding="utf-8")
        mlflow.log_artifacts(directory)


def parent_run(settings: Settings) -> Run:
    """The run that holds those of the sweep."""
    try:
        return MlflowClient().get_run(settings.sweep.parent)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise TrainingError(f"the sweep's parent {settings.sweep.parent!r} is no run of this server") from error


def children(parent: Run, condition: str) -> list[Run]:
    """The runs of the sweep for which a condition holds."""
    found = f"tags.`{PARENT}` = '{parent.info.run_id}' and {condition}"
    return list(MlflowClient().search_runs([parent.info.experiment_id], found, max_results=10_000))


def discard(run: Run) -> None:
    """Delete a run and the models that it logged."""
    client = MlflowClient()
    for model in run.outputs.model_outputs if run.outputs else []:
        client.delete_logged_model(model.model_id)
    client.delete_run(run.info.run_id)


def register(run: Run) -> ModelVersion:
    """The registry's version of a run's model; made unless it is there."""
    client, model = MlflowClient(), MODELS[run.data.tags[MODEL]]
    for version in client.search_model_versions(f"name = '{model.registered}' and run_id = '{run.info.run_id}'"):
        return version
    average_precision = run.data.metrics["average_precision"]
    tags = {tag: run.data.tags[tag] for tag in (TRAINING, DATA, DATA_DIGEST, TEST_DIGEST)}
    with redirect_stderr(io.StringIO()):  # MLflow tells its success there
        version = mlflow.register_model(
            f"models:/{run.outputs.model_outputs[0].model_id}",
            model.registered,
            tags={**tags, AVERAGE_PRECISION: repr(average_precision)},
        )
    text = f"{model.title}. Data: {tags[DATA]}. Average precision on the test rows: {average_precision:.4f}."
    say(f"registered as {version.name} version {version.version}")
    return client.update_model_version(
        version.name, version.version, f"{text} The last of its outputs is the probability of fraud."
    )


def described(run: Run, version: ModelVersion | None = None) -> Result:
    """What the result says about a run."""
    place = {"model": version.name, "version": int(version.version)} if version else {}
    numbers = {name: round(value, 6) for name, value in sorted(run.data.metrics.items())}
    return {"name": run.info.run_name, "run_id": run.info.run_id, **place, **numbers}


@dataclass(frozen=True)
class Contender:
    """A version that is, or might become, the champion."""

    model: str
    version: int
    average_precision: float | None  # on the test rows at hand; None where it cannot be asked any more
    note: str = ""

    def __str__(self) -> str:
        score = "" if self.average_precision is None else f" ({self.average_precision:.4f}{self.note})"
        return f"{self.model} version {self.version}{score}"

    def result(self) -> Result:
        """What the program's result says about it."""
        return {"model": self.model, "version": self.version, "average_precision": self.average_precision}


def decide(candidate: Contender, former: Contender | None) -> tuple[bool, str]:
    """Whether the alias moves to the candidate, and why: it must be strictly better on the same test rows."""
    if former is None:
        return True, "there was no champion"
    if (candidate.model, candidate.version) == (former.model, former.version):
        return False, "it is the champion already"
    if former.average_precision is None:
        return True, f"{former} cannot be used any more{former.note}"
    assert candidate.average_precision is not None
    if candidate.average_precision > former.average_precision:
        return True, f"{candidate} is better than {former}"
    return False, f"{candidate} is not better than {former}"


def promotion(settings: Settings, version: ModelVersion) -> Result:
    """Move the alias to a new version if it is better; one champion is left, even where a killed program left two."""
    client = MlflowClient()
    holders = [contender(settings, holder, version.tags[TEST_DIGEST]) for holder in champions()]
    candidate = Contender(version.name, int(version.version), recorded(version))
    former = max(
        holders, key=lambda holder: -1.0 if holder.average_precision is None else holder.average_precision, default=None
    )
    moved, reason = decide(candidate, former)
    winner = candidate if moved or former is None else former
    if moved:
        client.set_registered_model_alias(winner.model, CHAMPION, str(winner.version))
    for holder in holders:
        if holder.model != winner.model:  # in the same model the alias has moved
            client.delete_registered_model_alias(holder.model, CHAMPION)
    say(f"champion: {winner.model} version {winner.version}; {reason}")
    return {**winner.result(), "moved": moved, "former": former.result() if former else None, "reason": reason}


def champions() -> list[ModelVersion]:
    """The versions with the alias; one, unless a program was killed while it moved the alias."""
    client = MlflowClient()
    names = [model.registered for model in MODELS.values()]
    found = [model for name in names for model in client.search_registered_models(f"name = '{name}'")]
    return [
        client.get_model_version(model.name, model.aliases[CHAMPION]) for model in found if CHAMPION in model.aliases
    ]


def recorded(version: ModelVersion) -> float:
    """The average precision that was measured when it was trained."""
    return float(version.tags[AVERAGE_PRECISION])


def contender(settings: Settings, version: ModelVersion, test_digest: str) -> Contender:
    """The champion as it does on the test rows at hand: as recorded if they are the same, else it is asked."""
    name, number = version.name, int(version.version)
    if version.tags.get(TEST_DIGEST) == test_digest and AVERAGE_PRECISION in version.tags:
        return Contender(name, number, recorded(version))
    test = settings.loaded.test
    say(f"asking the champion, {name} version {number}, on these test rows")
    try:
        with TemporaryDirectory() as directory:
            model = mlflow.pyfunc.load_model(f"models:/{name}/{number}", dst_path=directory)
            scores = probabilities(model.predict(test[FEATURES]))
        return Contender(name, number, float(average_precision_score(test[TARGET], scores)), " on these test rows")
    except Exception as error:  # noqa: BLE001  anyone's model may fail in any way, and then it is of no use to anyone
        return Contender(name, number, None, f": {first_line(error)}")


def first_line(error: Exception) -> str:
    """What an error says first, in a length that is read; of a failed connection the cause, which it says last."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    cause = re.search(r"Caused by \w+\(['\"]?(?:<[^>]*>: )?(.*?)['\"]?\)+$", line)
    return (cause[1] if cause else line)[:500]


def quiet() -> None:
    """Leave standard output to `say`, and standard error to errors."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"
    )  # 14 s; of MLflow's own 7 nobody sees anything for minutes
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "The specified dataset source can be interpreted in multiple ways")


def stop(*_: object) -> None:
    """Mark an open run as failed and end at once: an exception may be lost in a callback of XGBoost's."""
    mlflow.end_run("FAILED")
    os._exit(143)


def settings_of(path: Path) -> Settings:
    """The validated settings of a file."""
    try:
        return Settings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TrainingError(f"cannot read the settings {path}: {error.strerror}") from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or path}: {fault['msg']}" for fault in error.errors()]
        raise TrainingError(f"bad settings: {'; '.join(faults)}") from error


def main(arguments: Sequence[str]) -> int:
    """Run one command; 1 and one line on standard error where it cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, stop)
    quiet()
    threadpool_limits(CPUS)
    say(f"libraries loaded in {time.process_time():.1f} s of processor time, {CPUS} CPUs")
    server = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        if not server:
            raise TrainingError("MLFLOW_TRACKING_URI does not say where the tracking server is")
        settings = settings_of(options.settings)
        with options.result.open("w", encoding="utf-8") as result:  # before the work, which would be lost
            result.write(json.dumps(COMMANDS[options.command](settings)) + "\n")
    except (MlflowException, RequestException) as error:
        message = f"MLflow at {server}: {first_line(error)}"
    except (TrainingError, OSError) as error:
        message = str(error)
    else:
        return 0
    print(f"training: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
