# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository of backups: what the program asks of it, and the one that is a directory of the controller."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ansible_collections.mlops.mlflow.plugins.module_utils._backup_content import chunks_of, opened
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_manifest import (
    BACKUPS,
    KEY,
    Manifest,
    backup_key,
    check_key,
    choose,
    name_of,
    parse,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

Take = Callable[[str, Iterator[bytes]], None]


class Store(Protocol):
    """Contents by keys. Writing is atomic: a key is there with all of its content, or not."""

    place: str
    """What it is to people."""
    parallel: int
    """How many contents may be on their way at once."""

    def keys(self, folder: str) -> list[str]:
        """The keys that begin with the folder's name."""

    def read(self, key: str) -> bytes:
        """A small content."""

    def write(self, key: str, chunks: Iterable[bytes]) -> None:
        """Keep a content. What `chunks` raises is raised, and nothing is kept."""

    def fetch(self, keys: Sequence[str], take: Take) -> None:
        """Hand each content to `take`, which reads it to its end."""

    def remove(self, keys: Sequence[str]) -> None:
        """Remove contents; one that is not there is not missed."""


def load(store: Store, name: str) -> Manifest:
    """The manifest of a backup."""
    manifest = parse(store.read(backup_key(name)), f"{store.place}/{backup_key(name)}")
    if manifest.name != name:
        raise MlopsError(f"The manifest {store.place}/{backup_key(name)} is that of the backup {manifest.name}.")
    return manifest


def find(store: Store, wanted: str) -> Manifest:
    """The manifest of the wanted backup, or of the newest for `latest`."""
    return load(store, choose(store.keys(BACKUPS), wanted, store.place))


class Directory:
    """A repository in a directory, which only its owner can read."""

    parallel = 1

    def __init__(self, path: str) -> None:
        self.place = path
        self._root = Path(path)

    def keys(self, folder: str) -> list[str]:
        """The keys of the folder's files; what an interrupted run left is not among them."""
        root = str(self._root)
        found = [
            os.path.relpath(os.path.join(parent, name), root)
            for parent, _folders, names in os.walk(self._root / folder)
            for name in names
        ]
        return [key for key in found if KEY.fullmatch(key)]

    def read(self, key: str) -> bytes:
        """A file's content."""
        try:
            return (self._root / check_key(key)).read_bytes()
        except FileNotFoundError as error:
            raise self._missing(key) from error

    def write(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write beside the file's place, then rename. A manifest is written when all that it names is on the disk."""
        path = self._root / check_key(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
            if key.startswith(BACKUPS):
                os.sync()
            unfinished.rename(path)
        except OSError as error:
            raise MlopsError(f"{path} cannot be written: {error.strerror}.") from error
        finally:
            unfinished.unlink(missing_ok=True)

    def fetch(self, keys: Sequence[str], take: Take) -> None:
        """Read one file after the other."""
        for key in keys:
            try:
                with (self._root / check_key(key)).open("rb") as stream:
                    take(key, chunks_of(stream))
            except FileNotFoundError as error:
                raise self._missing(key) from error

    def remove(self, keys: Sequence[str]) -> None:
        """Remove files, and folders that are empty then."""
        for key in keys:
            path = self._root / check_key(key)
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()

    def _missing(self, key: str) -> MlopsError:
        return MlopsError(f"{self._root / key} is missing: the repository is damaged.")


def verify(directory: Directory, manifest: Manifest) -> None:
    """Hold every object of a backup against its digest; MlopsError that names those that are not right."""

    def wrong(key: str) -> str:
        def take(key: str, chunks: Iterator[bytes]) -> None:
            for _piece in opened(chunks, name_of(key), f"{directory.place}/{key}"):
                pass

        try:
            directory.fetch([key], take)
        except MlopsError as error:
            return error.message
        return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [said for said in pool.map(wrong, sorted(manifest.objects)) if said]
    if found:
        raise MlopsError(
            f"The backup {manifest.name} cannot be restored: {len(found)} of its {len(manifest.objects)} objects are"
            f" missing or damaged. Nothing was changed. {' '.join(found[:5])} Restore another backup. Where the"
            " artifacts still exist, remove the damaged files and back up again: what is missing is sent anew.",
            damaged=found,
        )
