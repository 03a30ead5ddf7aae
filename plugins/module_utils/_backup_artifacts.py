# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the server keeps artifacts: what is there, and how another state of it is put in place and taken back.

A state is staged beside the live one, on the same volume or in the same bucket, so that to put it in place copies
nothing over the network and can be undone.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ansible_collections.mlops.mlflow.plugins.module_utils._backup_content import chunks_of
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_manifest import Artifact, Entry


class Artifacts(Protocol):
    """The artifacts of an instance. Paths are relative, with a `/` between two names."""

    def entries(self) -> dict[str, Entry]:
        """What is there."""

    def read(self, path: str) -> Iterator[bytes]:
        """A content. Raises FileNotFoundError where it is gone."""

    def stage(self, artifact: Artifact, chunks: Iterator[bytes]) -> None:
        """Take a content of the state that is to come."""

    def stage_again(self, artifact: Artifact, staged: Artifact) -> None:
        """Take a content that another path has as well."""

    def keep(self) -> None:
        """Make sure that what will be written over can be put back."""

    def put(self) -> None:
        """Put the staged state in place."""

    def take_back(self) -> None:
        """Put the state of before back, however far `put` came."""

    def clear(self) -> None:
        """Remove what was staged or kept."""


class Files:
    """Artifacts in a directory of the volume, which is exchanged with the database's files."""

    def __init__(self, live: Path, staging: Path) -> None:
        self._live, self._staging = live, staging

    def entries(self) -> dict[str, Entry]:
        """The regular files."""
        found: dict[str, Entry] = {}
        for parent, _folders, names in os.walk(self._live):
            for name in names:
                path = os.path.join(parent, name)
                try:
                    status = os.lstat(path)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    mode, stamp = stat.S_IMODE(status.st_mode), str(status.st_mtime_ns)
                    found[os.path.relpath(path, self._live)] = Entry(status.st_size, mode, stamp)
        return found

    def read(self, path: str) -> Iterator[bytes]:
        """A file's content."""
        with (self._live / path).open("rb") as stream:
            yield from chunks_of(stream)

    def stage(self, artifact: Artifact, chunks: Iterator[bytes]) -> None:
        """Write a file with the mode and the time of modification that it had."""
        with self._new(artifact).open("xb") as stream:
            for chunk in chunks:
                stream.write(chunk)
        self._finish(artifact)

    def stage_again(self, artifact: Artifact, staged: Artifact) -> None:
        """Copy a file that is staged; not by a link, since MLflow writes over a file in its place."""
        shutil.copyfile(self._staging / staged.path, self._new(artifact))
        self._finish(artifact)

    def keep(self) -> None:
        """The volume does it."""

    put = take_back = clear = keep

    def _new(self, artifact: Artifact) -> Path:
        path = self._staging / artifact.path
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return path

    def _finish(self, artifact: Artifact) -> None:
        path = self._staging / artifact.path
        path.chmod(artifact.mode & 0o777)
        if artifact.stamp.isdecimal():  # an object of S3 has an ETag in its place
            os.utime(path, ns=(int(artifact.stamp), int(artifact.stamp)))
