# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transactions: generated or read, checked, and split. The schema is Kaggle's "Credit Card Fraud Detection"."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import mlflow
import numpy as np
import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.types import ColSpec, Schema
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from sklearn.model_selection import train_test_split

COMPONENTS = tuple(f"V{number}" for number in range(1, 29))
FEATURES = [*COMPONENTS, "Amount"]  # Time tells when a row was recorded, not what it is
TARGET = "Class"
COLUMNS = ["Time", *FEATURES, TARGET]

# The reference's plain split, so that its figures and ours come from the same rows. Of 492 frauds 148 ± 10 are tested.
SPLIT = {"test_size": 0.3, "random_state": 1}

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=500)]


class TrainingError(Exception):
    """What the caller can act on; its text is one line."""


class Strict(BaseModel):
    """Settings that are exactly what is written here."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Generated(Strict):
    """Made here, from a seed."""

    source: Literal["generated"]
    seed: NonNegativeInt

    def __str__(self) -> str:
        return f"generated (seed {self.seed})"

    @property
    def origin(self) -> DatasetSource:
        """Where it comes from, in MLflow's terms."""
        return CodeDatasetSource({"mlflow.source.name": Path(__file__).name, "seed": str(self.seed)})


class Named(Strict):
    """A file of known content."""

    sha256: Sha256
    name: Name  # the file's own, or the URL that it came from

    def __str__(self) -> str:
        return f"{self.name}, sha256 {self.sha256}"

    @property
    def origin(self) -> DatasetSource:
        """Where it comes from, in MLflow's terms."""
        return resolve_dataset_source(self.name)


class File(Named):
    """A file of this machine."""

    source: Literal["file"]
    path: Path


class Artifact(Named):
    """A file that the tracking server keeps."""

    source: Literal["artifact"]
    uri: str


Source = Annotated[Generated | File | Artifact, Field(discriminator="source")]


@dataclass(frozen=True)
class Data:
    """The transactions, where they come from, and how they are split."""

    source: Generated | File | Artifact
    digest: str  # of all rows
    train: pd.DataFrame
    test: pd.DataFrame
    test_digest: str  # equal where two models were judged on the same rows, whatever else differs

    def dataset(self) -> MetaDataset:
        """The whole as MLflow knows data sets. Its own for pandas hashes a sample, and looks at each value for 6 s."""
        schema = Schema([ColSpec("long" if column == TARGET else "double", column) for column in COLUMNS])
        return MetaDataset(self.source.origin, name="transactions", digest=self.digest, schema=schema)


def digest(frame: pd.DataFrame) -> str:
    """A digest of all values and their columns' names; 128 bits, as MLflow stores no more than 36 characters."""
    content = hashlib.sha256()
    for column in frame:
        content.update(f"{column}\0".encode())
        content.update(frame[column].to_numpy(dtype="<f8").tobytes())
    return content.hexdigest()[:32]


def load(source: Generated | File | Artifact, rows: int, frauds: int) -> Data:
    """The transactions, split; raises TrainingError where they are not what the settings say."""
    frame = _frame(source, rows, frauds)
    train, test = train_test_split(frame, **SPLIT)
    if train[TARGET].nunique() + test[TARGET].nunique() < 4:
        raise TrainingError("too few frauds: the split leaves none to train on or none to test")
    return Data(source, digest(frame), train, test, digest(test))


def _frame(source: Generated | File | Artifact, rows: int, frauds: int) -> pd.DataFrame:
    if isinstance(source, Generated):
        return generate(source.seed, rows, frauds)
    if isinstance(source, File):
        return read(source.path, source, rows, frauds)
    with TemporaryDirectory() as directory:
        path = mlflow.artifacts.download_artifacts(artifact_uri=source.uri, dst_path=directory)
        return read(Path(path), source, rows, frauds)


def read(path: Path, source: Named, rows: int, frauds: int) -> pd.DataFrame:
    """The checked content of a CSV file."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TrainingError(f"{source.name}: cannot read {path}: {error.strerror}") from error
    if found != source.sha256:
        raise TrainingError(f"{source.name}: the sha256 of the file is {found}, not {source.sha256}")
    try:
        frame = pd.read_csv(path, engine="pyarrow")
    except ValueError as error:  # what pandas and Arrow raise for all that is not a table of text
        raise TrainingError(f"{source.name}: not a CSV file: {str(error).splitlines()[0]}") from error
    return check(frame, source.name, rows, frauds)


def check(frame: pd.DataFrame, name: str, rows: int, frauds: int) -> pd.DataFrame:
    """The frame with its columns in order and of their types; raises TrainingError with all that is wrong."""
    missing = [column for column in COLUMNS if column not in frame]
    extra = [str(column) for column in frame if column not in COLUMNS]
    problems = [f"no column {', '.join(missing)}"] * bool(missing)
    problems += [f"columns that do not belong there: {', '.join(extra)}"] * bool(extra)
    if not problems:
        numbers = pd.DataFrame({column: pd.to_numeric(frame[column], errors="coerce") for column in COLUMNS})
        empty = frame[COLUMNS].isna()
        faults = {
            "without a value": empty,
            "without a number": numbers.isna() & ~empty,
            "with an infinite number": numbers.isin([np.inf, -np.inf]),
            "with neither 0 nor 1": ~numbers[[TARGET]].isin([0, 1]) & numbers[[TARGET]].notna(),
        }
        problems += [
            f"column {column} has {_rows(marks[column].sum())} {fault}, the first in line {marks[column].argmax() + 2}"
            for fault, marks in faults.items()
            for column in marks
            if marks[column].any()
        ]
        if len(frame) != rows:
            problems.append(f"{_rows(len(frame))}, not {rows}")
        if (found := (numbers[TARGET] == 1).sum()) != frauds:
            problems.append(f"{found} frauds (Class 1), not {frauds}")
    if problems:
        raise TrainingError(f"{name}: {'; '.join(problems)}")
    return numbers.astype({column: "int64" if column == TARGET else "float64" for column in COLUMNS})


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


# What sets frauds apart, in standard deviations of a component. "stolen" lies off to one side, as a linear model likes
# it; "mirrored" lies off to either side; "probing" has no direction but is near the middle, for tiny amounts.
_STOLEN = {
    "V3": -2.8,
    "V4": 2.0,
    "V7": -2.4,
    "V10": -3.1,
    "V11": 2.3,
    "V12": -3.8,
    "V14": -4.3,
    "V16": -2.5,
    "V17": -4.0,
}
_MIRRORED = {"V2": 3.2, "V5": -3.0, "V9": 2.8, "V18": 3.4, "V19": 2.6}
_KINDS = {"ordinary": 0.08, "stolen": 0.72, "mirrored": 0.12, "probing": 0.08}  # "ordinary": nothing tells them
_MISTAKEN = 0.0001  # genuine payments that lie where stolen cards do


def generate(seed: int, rows: int, frauds: int) -> pd.DataFrame:
    """Transactions like the real ones: uncorrelated components of falling spread, heavy tails, a few kinds of fraud.

    Values are rounded: the last bits of logarithms differ between processors, and the digest must not.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    fraud = np.zeros(rows, dtype=bool)
    fraud[random.choice(rows, frauds, replace=False)] = True
    kind = np.full(rows, "ordinary", dtype="U8")
    kind[random.random(rows) < _MISTAKEN] = "stolen"
    kind[fraud] = random.choice(list(_KINDS), frauds, p=list(_KINDS.values()))
    stolen, mirrored, probing = (kind == name for name in ("stolen", "mirrored", "probing"))

    values = random.standard_normal((rows, len(COMPONENTS)))
    values /= np.sqrt(random.standard_gamma(3, (rows, 1)) / 2)  # Student's t with 6 degrees of freedom, of variance 1
    values[probing] *= 0.4
    depth = random.uniform(0.3, 1.7, rows)  # how plainly a fraud shows
    for name, shift in _STOLEN.items():
        values[stolen, COMPONENTS.index(name)] += shift * depth[stolen]
    side = random.choice([-1, 1], rows) * depth
    for name, shift in _MIRRORED.items():
        values[mirrored, COMPONENTS.index(name)] += shift * side[mirrored]

    amount = random.lognormal(3.1, 1.6, rows)
    amount[probing] = random.uniform(0, 3, rows)[probing]
    frame = pd.DataFrame(np.round(values * np.geomspace(1.96, 0.33, len(COMPONENTS)), 6), columns=list(COMPONENTS))
    frame.insert(0, "Time", np.sort(random.integers(0, 172_793, rows)).astype(float))
    return frame.assign(Amount=np.round(amount, 2), Class=fraud.astype("int64"))
