# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a backup in the place of the live state, in steps that can each be repeated after a kill.

    stage    fetch and check everything beside the live state, which goes on serving
    swap     move the live state aside and the new one in, while no server runs
    finish   remove the old state, once the new one is healthy
    undo     move the old state back, while no server runs

`state.json` tells how far it came. It is written before the first move and removed when nothing is to be undone.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils import _backup_database as database
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_artifacts import Artifacts
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_content import Progress, Tell, opened
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_manifest import (
    Artifact,
    Manifest,
    name_of,
    object_key,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_store import Store, find
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

FOLDER = ".mlflow-restore"
SPARE = 64 << 20  # bytes that a volume needs beside what is restored


@dataclass(frozen=True)
class Volume:
    """Where on the volume everything lies."""

    root: Path
    """The folder of the restore, on the volume."""
    live: Mapping[str, Path]
    """What is exchanged: a name, and the live path."""

    @classmethod
    def of(cls, file: Path, directory: Path | None) -> Volume:
        """The volume that holds the database and, unless they are on S3, the artifacts."""
        mount = mount_of(file)
        if mount == Path("/") or (directory and mount_of(directory) != mount):
            raise MlopsError(f"The database {file} and the artifacts {directory or ''} are not on one volume.")
        live = {file.name: file, f"{file.name}-wal": Path(f"{file}-wal"), f"{file.name}-shm": Path(f"{file}-shm")}
        return cls(mount / FOLDER, live | ({"artifacts": directory} if directory else {}))

    def new(self, name: str) -> Path:
        """Where the state that is to come lies."""
        return self.root / "new" / name

    def old(self, name: str) -> Path:
        """Where the state of before lies."""
        return self.root / "old" / name

    @property
    def database(self) -> str:
        """The database's name among what is exchanged."""
        return next(iter(self.live))

    def state(self) -> dict[str, Any]:
        """How far a restore came; empty where there is none."""
        try:
            return dict(json.loads((self.root / "state.json").read_text()))
        except FileNotFoundError:
            return {}

    def note(self, **state: Any) -> None:
        """Write how far it came, for a next run to find whatever happens to this one."""
        unfinished = self.root / "state.unfinished"
        unfinished.write_text(json.dumps(state))
        os.sync()
        unfinished.rename(self.root / "state.json")
        os.sync()

    def clear(self) -> None:
        """Remove what a restore left."""
        (self.root / "state.json").unlink(missing_ok=True)
        if self.root.exists():
            shutil.rmtree(self.root)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second restore of the same volume out."""
        descriptor = os.open(self.root.parent, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MlopsError(
                "Another restore works on this volume. Nothing was changed. Wait until it is done."
            ) from error
        else:
            yield
        finally:
            os.close(descriptor)


def mount_of(path: Path) -> Path:
    """The mount that a path is below."""
    return next(parent for parent in (path, *path.parents) if os.path.ismount(parent))


def touched(state: Mapping[str, Any]) -> bool:
    """Whether the live state was changed and neither confirmed nor put back."""
    return state.get("phase") in ("swapping", "swapped")


def unrestored(volume: Volume) -> Callable[[], None]:
    """What raises MlopsError where a restore is not done, or was made since: for a copy that takes its time."""
    live = volume.live[volume.database]

    def number() -> int:
        return live.stat().st_ino if live.exists() else 0

    first = number()

    def check() -> None:
        if touched(volume.state()):
            raise MlopsError(
                "A restore is not finished, and what is live now is perhaps taken back: run it again first."
            )
        if number() != first:
            raise MlopsError("Another state was restored meanwhile, so that the copy is of two. Back up again.")

    check()
    return check


def fetch(store: Store, manifest: Manifest, volume: Volume, artifacts: Artifacts, tell: Tell) -> None:
    """Stage everything that the manifest names; MlopsError where an object is missing or damaged."""
    wanted: dict[str, list[Artifact]] = {}
    for artifact in manifest.artifacts:
        wanted.setdefault(object_key(artifact.sha256), []).append(artifact)
    progress = Progress(tell)

    def take(key: str, chunks: Iterator[bytes]) -> None:
        content = opened(chunks, name_of(key), f"{store.place}/{key}")
        first, *others = wanted[key]
        artifacts.stage(first, content)
        for other in others:
            artifacts.stage_again(other, first)
        progress.add(first.size * len(wanted[key]), 0)

    def take_database(key: str, chunks: Iterator[bytes]) -> None:
        with volume.new(volume.database).open("xb") as stream:
            for chunk in opened(chunks, name_of(key), f"{store.place}/{key}"):
                stream.write(chunk)

    store.fetch([object_key(manifest.database.sha256)], take_database)
    store.fetch(list(wanted), take)


def stage(store: Store, wanted: str, volume: Volume, artifacts: Artifacts, tell: Tell) -> dict[str, Any]:
    """Bring a backup beside the live state; tells of it, or that an interrupted restore is to be undone first."""
    begin = time.monotonic()
    with volume.alone():
        if touched(volume.state()):
            return {"interrupted": True}
        manifest = find(store, wanted)
        schemas = database.Schemas.read()
        schemas.refuse_unknown(manifest.database.schema, manifest.mlflow)
        volume.clear()
        artifacts.clear()
        free = shutil.disk_usage(volume.root.parent).free
        if free < manifest.size + SPARE:
            raise MlopsError(
                f"The volume has {free / 1e6:.0f} MB free, and the backup {manifest.name} needs"
                f" {(manifest.size + SPARE) / 1e6:.0f} MB beside the state that is live. Nothing was changed."
            )
        for path in (volume.new("artifacts"), volume.old("")):
            path.mkdir(mode=0o750, parents=True)
        copied = volume.new(volume.database)
        try:
            fetch(store, manifest, volume, artifacts, tell)
            database.check_integrity(copied)
            upgraded = database.schema_of(copied) != schemas.head
            if upgraded:
                tell(f"The database is brought from the schema of MLflow {manifest.mlflow} to that of {schemas.mlflow}")
                database.upgrade(copied)
        except BaseException:
            volume.clear()
            artifacts.clear()
            raise
        copied.chmod(0o640)
        volume.note(phase="staged", backup=manifest.name)
    seconds = round(time.monotonic() - begin, 2)
    return manifest.describe() | {"interrupted": False, "upgraded": upgraded, "seconds": seconds}


def swap(volume: Volume, artifacts: Artifacts, backup: str) -> dict[str, Any]:
    """Exchange the live state for the staged one; no server may run."""
    with volume.alone():
        state = volume.state()
        if state.get("backup") != backup or touched(state):
            raise MlopsError(f"The backup {backup} is no longer staged: another restore took its place. Run again.")
        artifacts.keep()
        had = [name for name, live in volume.live.items() if live.exists()]
        volume.note(phase="swapping", backup=backup, had=had)
        for name, live in volume.live.items():
            if name in had:
                live.rename(volume.old(name))
            if volume.new(name).exists():
                live.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
                volume.new(name).rename(live)
        artifacts.put()
        volume.note(phase="swapped", backup=backup, had=had)
    return {"backup": backup}


def undo(volume: Volume, artifacts: Artifacts) -> dict[str, Any]:
    """Put the old state back, however far a swap came; no server may run."""
    with volume.alone():
        state = volume.state()
        if touched(state):
            discarded = volume.root / "discarded"
            discarded.mkdir(exist_ok=True)
            for name, live in volume.live.items():
                moved = volume.old(name).exists()
                # What is live now came with the swap where the old one lies aside, or where there was none.
                if live.exists() and (moved or (name not in state["had"] and not volume.new(name).exists())):
                    live.rename(discarded / name)
                if moved:
                    volume.old(name).rename(live)
            artifacts.take_back()
            os.sync()
        volume.clear()
        artifacts.clear()
    return {"undone": touched(state)}


def finish(volume: Volume, artifacts: Artifacts, backup: str) -> dict[str, Any]:
    """Remove the old state; from here on there is nothing to undo."""
    with volume.alone():
        state = volume.state()
        if state.get("backup") != backup or state.get("phase") != "swapped":
            raise MlopsError(f"The backup {backup} is not the one that was put in place last. Run again.")
        volume.clear()
        artifacts.clear()
    return {"backup": backup}
