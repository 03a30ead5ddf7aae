# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup is: a manifest that names a database and artifacts by their digests, and the keys of a repository.

A repository looks the same in a directory and in a bucket:

    backups/20261124T103000.123456Z.json    a manifest, written last, so that a backup is there with all it names or not
    objects/ab/ab12....gz                 a content under its SHA-256, compressed by gzip
    running/20261124T103000.123456Z         a backup that is being made, which keeps retention from removing objects
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

FORMAT = 1
BACKUPS, OBJECTS, RUNNING = "backups", "objects", "running"
NAME = r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z"
DIGEST = r"[0-9a-f]{64}"
KEY = re.compile(rf"{BACKUPS}/{NAME}\.json|{OBJECTS}/[0-9a-f]{{2}}/{DIGEST}\.gz|{RUNNING}/{NAME}")
# A backup that runs for longer was killed; no Job may take that long.
LONGEST_RUN = timedelta(days=1)


@dataclass(frozen=True)
class Entry:
    """An artifact as it lies in its store: what tells, without reading it, whether it is the one of before."""

    size: int
    mode: int
    stamp: str
    """A file's time of modification in nanoseconds, an S3 object's ETag."""


@dataclass(frozen=True)
class Artifact(Entry):
    """An artifact in a backup."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Database:
    """The copy of the database in a backup."""

    size: int
    sha256: str
    schema: str
    """The revision of Alembic, by which MLflow knows its schema."""


@dataclass(frozen=True)
class Manifest:
    """All that a backup consists of."""

    name: str
    instance: str
    mlflow: str
    database: Database
    artifacts: Sequence[Artifact]

    @property
    def objects(self) -> set[str]:
        """The keys of all contents."""
        return {object_key(self.database.sha256), *(object_key(each.sha256) for each in self.artifacts)}

    @property
    def size(self) -> int:
        """The bytes of all contents."""
        return self.database.size + sum(each.size for each in self.artifacts)

    def known(self) -> dict[tuple[str, Entry], str]:
        """The digest of each artifact that is found unchanged."""
        return {(each.path, Entry(each.size, each.mode, each.stamp)): each.sha256 for each in self.artifacts}

    def describe(self) -> dict[str, Any]:
        """What people and playbooks are told of it."""
        return {
            "name": self.name,
            "created": made(self.name).isoformat(),
            "instance": self.instance,
            "mlflow_version": self.mlflow,
            "schema": self.database.schema,
            "artifacts": len(self.artifacts),
            "objects": len(self.objects),
            "bytes": self.size,
        }


def new_name(now: datetime) -> str:
    """The name of a backup that begins now; by their names backups are in order."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"


def made(name: str) -> datetime:
    """When a backup began, by its name."""
    return datetime.strptime(name, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)


def object_key(sha256: str) -> str:
    """Where a content lies."""
    return f"{OBJECTS}/{sha256[:2]}/{sha256}.gz"


def backup_key(name: str) -> str:
    """Where a manifest lies."""
    return f"{BACKUPS}/{name}.json"


def running_key(name: str) -> str:
    """Where it is noted that a backup is being made."""
    return f"{RUNNING}/{name}"


def name_of(key: str) -> str:
    """The name of the backup that a manifest or a note belongs to, the digest that an object is named by."""
    return PurePosixPath(key).name.removesuffix(".json").removesuffix(".gz")


def check_key(key: str) -> str:
    """The key; MlopsError for one that no repository has, such as a path that leaves its directory."""
    if not KEY.fullmatch(key):
        raise MlopsError(f"{key!r} is not the key of anything in a repository of backups.")
    return key


def safe_path(path: Any) -> bool:
    """Whether an artifact's path stays below the directory that it is restored into, and is written in one way only."""
    return (
        isinstance(path, str)
        and path != ""
        and "\0" not in path
        and all(part not in ("", ".", "..") for part in path.split("/"))
    )


def digest(content: Mapping[str, Any]) -> str:
    """The digest by which a manifest knows itself to be whole."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def render(manifest: Manifest) -> bytes:
    """The manifest's file."""
    content = {"format": FORMAT, **asdict(manifest)}
    return json.dumps(content | {"digest": digest(content)}, indent=1).encode() + b"\n"


def parse(text: bytes, place: str) -> Manifest:
    """The manifest in a file; MlopsError for one that is damaged, of a later format or with a path that is not safe."""
    try:
        content = json.loads(text)
        kept = content.pop("digest")
        later = content["format"] > FORMAT
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise MlopsError(f"The manifest {place} is damaged: it cannot be read. Restore another backup.") from error
    if later:
        raise MlopsError(
            f"The manifest {place} has format {content['format']}, and this collection knows {FORMAT}: use the version"
            " of mlops.mlflow that wrote it, or a later one."
        )
    if kept != digest(content):
        raise MlopsError(f"The manifest {place} is damaged: its digest is another. Restore another backup.")
    try:
        artifacts = [Artifact(**each) for each in content["artifacts"]]
        database = Database(**content["database"])
        manifest = Manifest(content["name"], content["instance"], content["mlflow"], database, artifacts)
        digests = [database.sha256, *(each.sha256 for each in artifacts)]
        right = re.fullmatch(NAME, manifest.name) and all(re.fullmatch(DIGEST, each) for each in digests)
    except (LookupError, TypeError) as error:
        raise MlopsError(f"The manifest {place} is not one of a backup: {error!r}.") from error
    unsafe = [each.path for each in artifacts if not safe_path(each.path)]
    if unsafe:
        raise MlopsError(
            f"The manifest {place} names {unsafe[0]!r}, which would be written outside the artifacts' directory."
            " Nothing was changed. It was not made by this collection: do not trust this repository."
        )
    if not right or len({each.path for each in artifacts}) != len(artifacts):
        raise MlopsError(f"The manifest {place} is not one of a backup: a digest, its name or a path is not possible.")
    return manifest


def choose(keys: Iterable[str], wanted: str, place: str) -> str:
    """The name of the wanted backup, or of the newest for `latest`; MlopsError with those that there are."""
    names = sorted(map(name_of, keys))
    if wanted == "latest" and names:
        return names[-1]
    if wanted in names:
        return wanted
    there = f"There are: {', '.join(names)}." if names else "There are none: make one with playbooks/backup.yml."
    raise MlopsError(f"There is no backup {wanted} in {place}. {there}", backups=names)


def expired(keys: Iterable[str], keep: int) -> list[str]:
    """The manifests that the retention rule removes: all but the newest `keep`."""
    return sorted(keys)[:-keep]


def still_running(keys: Iterable[str], now: datetime) -> list[str]:
    """The notes of backups that are being made, without those that a killed backup left."""
    return [key for key in keys if now - made(name_of(key)) < LONGEST_RUN]
