# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a backup while the server serves.

The database is copied first and the artifacts are listed afterwards, so that they hold all that the copy names. What
changes while it is read is read again; where an artifact is removed meanwhile, the copy may still name it, and the
database is copied again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils import _backup_database as database
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_artifacts import Artifacts
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_content import (
    DamagedError,
    Progress,
    Tell,
    checked,
    chunks_of,
    compressed,
    sha256_of,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_manifest import (
    BACKUPS,
    OBJECTS,
    RUNNING,
    Artifact,
    Database,
    Entry,
    Manifest,
    backup_key,
    expired,
    name_of,
    new_name,
    object_key,
    render,
    running_key,
    still_running,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_store import Store, load
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

IN_MEMORY = 8 << 20  # bytes; what is larger is read twice, once for its digest
COPIES, ROUNDS = 3, 5


def measured(chunks: Iterator[bytes], sizes: list[int]) -> Iterator[bytes]:
    """The content as it is; notes the sizes of its pieces."""
    for chunk in chunks:
        sizes.append(len(chunk))
        yield chunk


@dataclass
class Sending:
    """What the repository has, and the way of new contents into it."""

    store: Store
    have: set[str]
    progress: Progress

    def send(self, sha256: str, size: int, chunks: Iterator[bytes]) -> None:
        """Send a content unless it is there. DamagedError where it turns out to be another than its digest says."""
        key = object_key(sha256)
        if key in self.have:
            return
        sizes: list[int] = []
        self.store.write(key, measured(compressed(checked(chunks, sha256, key)), sizes))
        self.have.add(key)
        self.progress.add(size, sum(sizes))

    def artifact(self, artifacts: Artifacts, path: str, entry: Entry, known: str | None) -> str | None:
        """The digest of an artifact, which is in the repository then; None where it is gone or changes meanwhile."""
        if known and object_key(known) in self.have:
            return known
        try:
            if entry.size <= IN_MEMORY:
                content = b"".join(artifacts.read(path))
                digest = hashlib.sha256(content).hexdigest()
                self.send(digest, len(content), iter([content]))
            else:
                digest = known or sha256_of(artifacts.read(path))
                self.send(digest, entry.size, artifacts.read(path))
        except (FileNotFoundError, DamagedError):
            return None
        return digest


def copy_artifacts(
    sending: Sending, artifacts: Artifacts, known: Mapping[tuple[str, Entry], str]
) -> list[Artifact] | None:
    """All artifacts, which are in the repository then; None where one was removed meanwhile."""
    entries = pending = artifacts.entries()
    digests: dict[str, str | None] = {}
    with ThreadPoolExecutor(sending.store.parallel) as pool:
        for _round in range(ROUNDS):

            def work(item: tuple[str, Entry]) -> str | None:
                return sending.artifact(artifacts, *item, known.get(item))

            digests |= dict(zip(pending, pool.map(work, pending.items()), strict=True))
            after = artifacts.entries()
            if entries.keys() - after.keys():
                return None
            pending = {path: after[path] for path in entries if after[path] != entries[path] or not digests[path]}
            entries |= pending
            if not pending:
                break
    unread = [path for path, digest in digests.items() if not digest]
    if unread:
        raise MlopsError(f"The artifact {unread[0]} changes faster than it can be read. Back up again when it is done.")
    return [Artifact(entry.size, entry.mode, entry.stamp, path, digests[path] or "") for path, entry in entries.items()]


def newest(store: Store, instance: str, tell: Tell) -> Manifest | None:
    """The newest backup that can be read; MlopsError where it is another instance's."""
    for key in sorted(store.keys(BACKUPS), reverse=True):
        try:
            found = load(store, name_of(key))
        except MlopsError as error:
            tell(f"Passed over: {error.message}")
            continue
        if found.instance != instance:
            raise MlopsError(
                f"{store.place} holds the backups of the instance {found.instance}, not of {instance}: give this"
                " instance a repository of its own."
            )
        return found
    return None


def prune(store: Store, keep: int, own: str, now: datetime, tell: Tell) -> list[str]:
    """Remove what the retention rule no longer keeps; the names of the backups that are gone."""
    keys = store.keys(BACKUPS)
    doomed = expired(keys, keep)
    others = set(still_running(store.keys(RUNNING), now)) - {running_key(own)}
    if doomed and others:
        tell("Another backup is being made: the next one removes what is not to be kept")
        return []
    if doomed:
        try:
            named = set().union(*(load(store, name_of(key)).objects for key in keys if key not in doomed))
        except MlopsError as error:
            tell(f"Nothing is removed, since a backup that is kept cannot be read: {error.message}")
            return []
        store.remove(doomed)
        store.remove(sorted(set(store.keys(OBJECTS)) - named))
    return [name_of(key) for key in doomed]


def snapshot(
    sending: Sending, artifacts: Artifacts, live: Path, spool: Path, known: Mapping[tuple[str, Entry], str]
) -> tuple[Database, list[Artifact]]:
    """A copy of the database and all artifacts that it names, in the repository."""
    for _copy in range(COPIES):
        copied = database.copy(live, spool)
        with spool.open("rb") as stream:
            sending.send(copied.sha256, copied.size, chunks_of(stream))
        found = copy_artifacts(sending, artifacts, known)
        if found is not None:
            return copied, found
        sending.progress.tell("An artifact was removed meanwhile: the database is copied again")
    raise MlopsError(
        f"Artifacts were removed during each of {COPIES} attempts, so that no copy of the database is sure to name only"
        " what is there. No backup was made. Back up again when the removal (mlflow gc) is done."
    )


def make(
    store: Store,
    artifacts: Artifacts,
    live: Path,
    spool: Path,
    *,
    instance: str,
    keep: int,
    tell: Tell,
    check: Callable[[], None],
) -> dict[str, Any]:
    """Make a backup and apply the retention rule; tells of it. `check` raises where the copy is not to be kept."""
    begin, name = time.monotonic(), new_name(datetime.now(UTC))
    store.write(running_key(name), [])
    try:
        previous = newest(store, instance, tell)
        sending = Sending(store, set(store.keys(OBJECTS)), Progress(tell))
        known = previous.known() if previous else {}
        copied, found = snapshot(sending, artifacts, live, spool, known)
        manifest = Manifest(name, instance, importlib.metadata.version("mlflow"), copied, found)
        lost = manifest.objects - set(store.keys(OBJECTS))
        if lost:  # by the retention of another backup that had begun before this one
            raise MlopsError(f"{len(lost)} objects were removed from {store.place} meanwhile. Back up again.")
        check()
        store.write(backup_key(name), [render(manifest)])
        removed = prune(store, keep, name, datetime.now(UTC), tell)
        kept = len(store.keys(BACKUPS))
    finally:
        store.remove([running_key(name)])
    progress = sending.progress
    return manifest.describe() | {
        "new_objects": progress.objects,
        "new_bytes": progress.size,
        "stored_bytes": progress.stored,
        "seconds": round(time.monotonic() - begin, 2),
        "kept": kept,
        "removed": removed,
    }
