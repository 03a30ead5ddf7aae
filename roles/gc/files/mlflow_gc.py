# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run `mlflow gc` on exactly what may go, with the tracking server's image, environment and volume.

mlflow_gc.py list|remove OLDER_THAN [ANSWER]

The command itself takes what it finds. This finds out first, and is more careful: what a registered model's version
needs stays, and so does an experiment while something in it stays. It also takes along what the command leaves behind:
the models that live in a deleted experiment, their files and those of its traces, and empty directories. SQLite gives
a number that is free to the next experiment, which would find them in its place.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow.cli import _gc_tracking_resources
from mlflow.entities import LifecycleStage
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import (
    _artifact_repository_registry,
    get_artifact_repository,
)
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

AGE = re.compile(r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?")  # that of `mlflow gc --older-than`
ANSWER_BYTES = 4000  # Kubernetes cuts a termination message after 4096
KINDS = ("run", "model", "experiment")


@dataclass(frozen=True)
class Item:
    """Something that was deleted, or lives in what was deleted."""

    kind: str
    id: str
    name: str
    experiment: str
    deleted: int  # ms since 1970
    location: str
    lives: bool = False
    size: int = 0  # bytes of its artifacts; of an experiment those that belong to nothing else that goes

    def result(self) -> dict[str, Any]:
        """What the answer says about it."""
        when = datetime.fromtimestamp(self.deleted / 1000, UTC).isoformat(timespec="seconds")
        return {"kind": self.kind, "id": self.id, "name": self.name[:60], "deleted": when, "bytes": self.size}


@dataclass
class Plan:
    """What goes, and what is old enough but stays, with the reason."""

    items: list[Item] = field(default_factory=list)
    kept: list[tuple[Item, str]] = field(default_factory=list)

    def of(self, kind: str) -> list[Item]:
        """The items of a kind."""
        return [item for item in self.items if item.kind == kind]


def milliseconds(age: str) -> int:
    """An age in MLflow's notation (1d12h)."""
    match = AGE.fullmatch(age)
    if not match or not any(match.groups()):
        raise ValueError(f"{age!r} is no age such as 30d or 1d12h")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return int(timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds() * 1000)


def served(uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> ArtifactRepository:
    """What the server serves under a mlflow-artifacts URI: here it is read and removed without asking the server."""
    root = os.environ["MLFLOW_ARTIFACTS_DESTINATION"].rstrip("/")
    return get_artifact_repository(f"{root}/{urlsplit(uri).path.strip('/')}", tracking_uri, registry_uri)


def files(repository: ArtifactRepository, path: str | None = None) -> Iterator[int]:
    """The sizes of the files in a directory of artifacts and below it."""
    for found in repository.list_artifacts(path):
        if found.is_dir:
            yield from files(repository, found.path)
        else:
            yield found.file_size or 0


def size(location: str) -> int:
    """Bytes of the artifacts at a location."""
    return sum(files(get_artifact_repository(location)))


def within(location: str, place: str) -> bool:
    """Whether a location is a place or lies below it."""
    return f"{location.rstrip('/')}/".startswith(f"{place.rstrip('/')}/")


class Content:
    """What the database holds of deleted things, and of what needs them."""

    def __init__(self, store: SqlAlchemyStore) -> None:
        deleted = LifecycleStage.DELETED
        with store.ManagedSessionMaker() as session:
            gone = [row.experiment_id for row in session.query(SqlExperiment).filter_by(lifecycle_stage=deleted)]
            runs = session.query(SqlRun).filter((SqlRun.lifecycle_stage == deleted) | SqlRun.experiment_id.in_(gone))
            models = session.query(SqlLoggedModel).filter(
                (SqlLoggedModel.lifecycle_stage == deleted) | SqlLoggedModel.experiment_id.in_(gone)
            )
            self.runs = [
                Item(
                    *("run", row.run_uuid, row.name or "", str(row.experiment_id), row.deleted_time or 0),
                    *(row.artifact_uri, row.lifecycle_stage != deleted),
                )
                for row in runs
            ]
            self.models = [
                Item(
                    *("model", row.model_id, row.name, str(row.experiment_id), row.last_updated_timestamp_ms),
                    *(row.artifact_location, row.lifecycle_stage != deleted),
                )
                for row in models
            ]
            experiments = session.query(SqlExperiment).all()
            self.experiments = [
                Item(
                    *("experiment", str(row.experiment_id), row.name, str(row.experiment_id)),
                    *(row.last_update_time or 0, row.artifact_location),
                )
                for row in experiments
                if row.lifecycle_stage == deleted
            ]
            self.places = {str(row.experiment_id): row.artifact_location for row in experiments}
            self.versions = [
                (f"{row.name} version {row.version}", row.run_id, (row.source or "", row.storage_location or ""))
                for row in session.query(SqlModelVersion)
                if row.current_stage != "Deleted_Internal"
            ]

    def need(self, item: Item) -> str:
        """The registered version that a run or model is needed by; empty for none."""
        for version, run, places in self.versions:
            if item.id == run or any(within(place, item.location) for place in places):
                return version
        return ""

    def own_place(self, experiment: Item) -> bool:
        """Whether the directory of an experiment's artifacts is its alone."""
        others = [place for number, place in self.places.items() if number != experiment.id]
        named = experiment.location.rstrip("/").rsplit("/", 1)[-1] == experiment.id
        return named and not any(within(place, experiment.location) for place in others)


def plan(content: Content, before: int) -> Plan:
    """What goes of what was deleted before a time."""
    made = Plan()
    for item in (*content.runs, *content.models):
        if item.lives or item.deleted > before:
            continue
        if need := content.need(item):
            made.kept.append((item, f"needed by {need}"))
        else:
            made.items.append(replace(item, size=size(item.location)))
    going = {item.id for item in made.items}
    for experiment in content.experiments:
        if experiment.deleted > before:
            continue
        within_it = [item for item in (*content.runs, *content.models) if item.experiment == experiment.id]
        models = [item for item in within_it if item.kind == "model" and item.lives]
        stay = [item for item in within_it if item.id not in going and (item not in models or content.need(item))]
        if stay:
            made.kept.append((experiment, f"{stay[0].kind} {stay[0].id} in it stays"))
            continue
        made.items += [replace(model, size=size(model.location)) for model in models]
        rest = 0
        if content.own_place(experiment):
            inside = [item.size for item in made.items if within(item.location, experiment.location)]
            rest = size(experiment.location) - sum(inside)
        made.items.append(replace(experiment, size=rest))
    return made


def remove(store: SqlAlchemyStore, content: Content, wanted: Plan) -> None:
    """Remove it by `mlflow gc`, then what that leaves behind."""
    for model in wanted.of("model"):
        if model.lives:
            store.delete_logged_model(model.id)
    ids = {kind: [item.id for item in wanted.of(kind)] for kind in KINDS}
    _gc_tracking_resources(
        store,
        run_ids=ids["run"],
        experiment_ids=ids["experiment"],
        logged_model_ids=ids["model"],
        older_than=None,
        time_delta=0,
        skip_experiments=not ids["experiment"],  # an empty list would mean all of them
        skip_logged_models=False,
        ignore_not_found=True,  # another collection may be at work
    )
    for item in wanted.items:
        repository = get_artifact_repository(item.location)
        if item.kind == "experiment":
            if content.own_place(item):
                repository.delete_artifacts()
        elif isinstance(repository, LocalArtifactRepository):
            directory = Path(repository.artifact_dir).parent
            if directory.name == item.id:
                with suppress(OSError):  # not empty, or gone with its experiment
                    directory.rmdir()


def answer(found: Plan) -> dict[str, Any]:
    """The answer, with as many of the items as there is room for."""
    counts = {f"{kind}s": len(found.of(kind)) for kind in KINDS}
    told: dict[str, Any] = {**counts, "kept": len(found.kept), "bytes": sum(item.size for item in found.items)}
    shown: list[dict[str, Any]] = []
    order: Sequence[Item] = sorted(found.items, key=lambda item: (-KINDS.index(item.kind), item.deleted))
    for item in order:
        shown.append(item.result())
        if len(json.dumps(told | {"items": shown, "more": len(order)}).encode()) > ANSWER_BYTES:
            shown.pop()
            break
    return told | {"items": shown, "more": len(order) - len(shown)}


def collect(action: str, older_than: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """List or remove what was deleted longer ago than an age; the answer."""
    uri = environment["MLFLOW_BACKEND_STORE_URI"]
    path = uri.removeprefix("sqlite:///")
    if path != uri and not Path(path).is_file():
        raise FileNotFoundError(f"There is no database {path}")
    _artifact_repository_registry.register("mlflow-artifacts", served)
    store = SqlAlchemyStore(uri, environment["MLFLOW_ARTIFACTS_DESTINATION"])
    content = Content(store)
    found = plan(content, int(time.time() * 1000) - milliseconds(older_than))
    for item, reason in found.kept:
        print(f"stays: {item.kind} {item.id} ({item.name}): {reason}", flush=True)
    for item in found.items:
        print(f"{'goes' if action == 'remove' else 'would go'}: {json.dumps(item.result())}", flush=True)
    if action == "remove" and found.items:
        remove(store, content, found)
    return answer(found)


if __name__ == "__main__":
    told = json.dumps(collect(sys.argv[1], sys.argv[2], os.environ))
    Path(*sys.argv[3:4] or ["/dev/stdout"]).write_text(f"{told}\n", encoding="utf-8")
