# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two models that are compared: how each is built, logged and judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

import joblib
import mlflow.sklearn
import mlflow.xgboost
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mlflow.models import infer_signature
from mlflow.models.model import ModelInfo
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_recall_curve,
    recall_score,
    roc_auc_score,
    roc_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from training_data import FEATURES, TARGET, TrainingError, generate
from typing_extensions import override
from xgboost import XGBClassifier
from xgboost.core import XGBoostError

Kind = Literal["xgboost", "logistic_regression"]
Numbers = np.ndarray[Any, np.dtype[Any]]
CPUS = joblib.cpu_count()  # those that affinity and cgroup leave to this process
THRESHOLD = 0.5


class Model(ABC):
    """One way to tell frauds.

    Neither weighs the classes: the outputs stay probabilities, and average precision looks at their order only.
    """

    run: ClassVar[str]  # the reference's names of run and registered model
    registered: ClassVar[str]
    title: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]]
    rehearsal: ClassVar[Mapping[str, Any]] = {}  # what differs where a few rows tell whether it can be trained
    packages: ClassVar[tuple[str, ...]]  # that a model needs where it is loaded

    @abstractmethod
    def build(self, parameters: Mapping[str, Any]) -> Any:
        """An estimator that is not trained yet."""

    @abstractmethod
    def known(self) -> set[str]:
        """The names of its parameters."""

    @abstractmethod
    def output(self, estimator: Any, frame: pd.DataFrame) -> Numbers:
        """What the logged model answers through pyfunc."""

    @abstractmethod
    def save(self, estimator: Any, **options: Any) -> ModelInfo:
        """Log it as a model of its own flavor."""

    def parameters(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """All that it is built with."""
        return {**self.defaults, **extra}

    def check(self, extra: Mapping[str, Any]) -> None:
        """Raise TrainingError for parameters that it does not know or that it cannot be trained with."""
        if unknown := extra.keys() - self.known():
            raise TrainingError(f"{self.title} has no parameter {', '.join(sorted(unknown))}")
        few = generate(1, 200, 50)
        try:
            self.build({**self.parameters(extra), **self.rehearsal}).fit(few[FEATURES], few[TARGET])
        except (ValueError, TypeError, XGBoostError) as error:
            reason = next(line for line in str(error).splitlines() if line.strip())
            raise TrainingError(f"{self.title} cannot be trained with {dict(extra)}: {reason}") from error

    def log(self, estimator: Any, example: pd.DataFrame) -> ModelInfo:
        """Log it with signature and example; requirements are given, as MLflow's own search for them takes long."""
        return self.save(
            estimator,
            name="model",
            signature=infer_signature(example, self.output(estimator, example)),
            input_example=example,
            pip_requirements=[f"{package}=={version(package)}" for package in ("mlflow", *self.packages)],
        )


class Boosted(Model):
    """XGBoost, logged as the Booster: pyfunc asks a classifier for classes, a Booster for probabilities."""

    run = "xgboost model"
    registered = "XGBoostModel"
    title = "XGBoost"
    # max_delta_step is XGBoost's own advice for rare positives where probabilities matter.
    defaults: ClassVar[Mapping[str, Any]] = {
        "n_estimators": 200,
        "max_depth": 4,
        "learning_rate": 0.1,
        "max_delta_step": 1,
        "tree_method": "hist",
        "random_state": 1,
        "n_jobs": CPUS,
    }
    rehearsal: ClassVar[Mapping[str, Any]] = {"n_jobs": 1}  # threads that wait for one another take a second
    packages = ("xgboost-cpu", "numpy", "pandas")

    @override
    def build(self, parameters: Mapping[str, Any]) -> XGBClassifier:
        return XGBClassifier(**parameters)

    @override
    def known(self) -> set[str]:
        return set(XGBClassifier().get_params())

    @override
    def output(self, estimator: Any, frame: pd.DataFrame) -> Numbers:
        return np.asarray(estimator.predict_proba(frame)[:, 1])

    @override
    def save(self, estimator: Any, **options: Any) -> ModelInfo:
        return mlflow.xgboost.log_model(estimator.get_booster(), **options)


class Linear(Model):
    """Logistic regression on scaled features; unscaled ones are the reference's fault: its solver does not converge."""

    run = "LogisticRegression model"
    registered = "LogisticRegressionModel"
    title = "Logistic regression"
    defaults: ClassVar[Mapping[str, Any]] = {"C": 1.0, "solver": "lbfgs", "max_iter": 1000, "random_state": 1}
    packages = ("scikit-learn", "skops", "numpy", "pandas")

    @override
    def build(self, parameters: Mapping[str, Any]) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(**parameters))

    @override
    def known(self) -> set[str]:
        return set(LogisticRegression().get_params())

    @override
    def output(self, estimator: Any, frame: pd.DataFrame) -> Numbers:
        return np.asarray(estimator.predict_proba(frame))

    @override
    def save(self, estimator: Any, **options: Any) -> ModelInfo:
        return mlflow.sklearn.log_model(estimator, pyfunc_predict_fn="predict_proba", **options)


MODELS: Mapping[Kind, Model] = {"xgboost": Boosted(), "logistic_regression": Linear()}


def probabilities(output: Any) -> Numbers:
    """The probability of fraud in what either model answers: its only column, or the last of two."""
    found = np.asarray(output, dtype=float)
    return found.reshape(len(found), -1)[:, -1]


def metrics(classes: Numbers, scores: Numbers, precision: float) -> dict[str, float]:
    """The reference's four, which hardly tell models apart at 0.17 % of frauds, and those that do."""
    found = scores > THRESHOLD
    precisions, recalls, _thresholds = precision_recall_curve(classes, scores)
    values = {
        "accuracy": accuracy_score(classes, found),
        "recall_class_0": recall_score(classes, found, pos_label=0),
        "recall_class_1": recall_score(classes, found),
        "f1_score_macro": f1_score(classes, found, average="macro"),
        "average_precision": average_precision_score(classes, scores),
        "roc_auc": roc_auc_score(classes, scores),
        f"recall_at_precision_{100 * precision:g}": recalls[precisions >= precision].max(),
    }
    return {name: float(value) for name, value in values.items()}


def sample(classes: Numbers, scores: Numbers, count: int = 200) -> Numbers:
    """Positions of rows of all kinds: of both classes half, from the least to the most suspicious."""
    positions = []
    for members in (np.flatnonzero(classes == 0), np.flatnonzero(classes == 1)):
        ordered = members[np.argsort(scores[members], kind="stable")]
        positions.append(ordered[np.unique(np.linspace(0, len(ordered) - 1, count // 2).astype(int))])
    return np.concatenate(positions)


def pictures(classes: Numbers, scores: Numbers, title: str, directory: Path) -> None:
    """Draw what the metrics sum up, a file each."""
    shown = {"confusion_matrix": _confusion, "roc_curve": _roc, "precision_recall_curve": _precision_recall}
    for name, draw in shown.items():
        figure = Figure(figsize=(6, 5), layout="constrained")
        draw(figure.subplots(), classes, scores)
        figure.suptitle(title, fontsize="medium", wrap=True)
        figure.savefig(directory / f"{name}.png", dpi=100)


def _confusion(axes: Axes, classes: Numbers, scores: Numbers) -> None:
    counts = confusion_matrix(classes, scores > THRESHOLD)
    shares = counts / counts.sum(axis=1, keepdims=True)  # of each class: else the genuine ones drown the frauds
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(2, 2):
        text = f"{counts[row, column]:,}\n{shares[row, column]:.2%}"
        axes.text(column, row, text, ha="center", va="center", color="white" if shares[row, column] > 0.5 else "black")
    names = ["genuine", "fraud"]
    axes.set(xticks=[0, 1], xticklabels=names, yticks=[0, 1], yticklabels=names)
    axes.set(xlabel=f"predicted (threshold {THRESHOLD})", ylabel="actual", title="Confusion matrix")


def _roc(axes: Axes, classes: Numbers, scores: Numbers) -> None:
    false, true, _thresholds = roc_curve(classes, scores)
    axes.plot(false, true, label=f"area {roc_auc_score(classes, scores):.4f}")
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey", label="chance 0.5")
    _finish(axes, "false positive rate", "true positive rate (recall)", "ROC curve")


def _precision_recall(axes: Axes, classes: Numbers, scores: Numbers) -> None:
    precisions, recalls, _thresholds = precision_recall_curve(classes, scores)
    axes.step(
        recalls, precisions, where="post", label=f"average precision {average_precision_score(classes, scores):.4f}"
    )
    axes.axhline(classes.mean(), linestyle=":", color="grey", label=f"chance {classes.mean():.4f}")
    _finish(axes, "recall", "precision", "Precision and recall")


def _finish(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set(xlabel=x, ylabel=y, title=title, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.grid(alpha=0.3)
    axes.legend()
