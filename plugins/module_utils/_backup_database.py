# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database: a copy of it while the server writes, its schema, and whether an MLflow knows that.

SQLite's online backup (https://www.sqlite.org/backup.html) copies in one read transaction, which with the write-ahead
log keeps no writer waiting.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.mlops.mlflow.plugins.module_utils._backup_content import chunks_of, sha256_of
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_manifest import Database
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

SQLITE = "sqlite:////"
COPY = "immutable=1"  # nobody else has it open
BUSY_TIMEOUT = 60  # seconds


def sqlite_path(uri: str) -> Path:
    """The file behind a backend store; MlopsError where it is no SQLite file."""
    if not uri.startswith(SQLITE):
        kind = uri.partition(":")[0] or "nothing"
        raise MlopsError(
            f"The backend store is {kind}, and only SQLite (sqlite:////...) can be backed up and restored."
        )
    return Path("/", uri.removeprefix(SQLITE).partition("?")[0])


def schema_of(path: Path) -> str:
    """The revision of the schema of a copy; MlopsError where the file is not MLflow's database."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?{COPY}", uri=True)) as connection:
            ((revision,),) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except (sqlite3.Error, ValueError) as error:
        raise MlopsError(f"{path} is not a database of MLflow: {error}.") from error
    return str(revision)


def copy(live: Path, target: Path) -> Database:
    """Copy the database while others write to it."""
    target.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"{live.as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT)) as source,
            closing(sqlite3.connect(target)) as copied,
        ):
            source.backup(copied)
    except sqlite3.Error as error:
        raise MlopsError(f"The database {live} cannot be copied: {error}.") from error
    with target.open("rb") as stream:
        digest = sha256_of(chunks_of(stream))
    return Database(target.stat().st_size, digest, schema_of(target))


def check_integrity(path: Path) -> None:
    """MlopsError where SQLite finds the copy damaged."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?{COPY}", uri=True)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    except sqlite3.Error as error:
        found = [str(error)]
    if found != ["ok"]:
        raise MlopsError(f"The database of the backup is damaged: {'; '.join(found[:3])}. Nothing was changed.")


def constants(source: str) -> dict[str, str]:
    """The texts that a Python file gives to names."""
    return {
        target.id: node.value.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


@dataclass(frozen=True)
class Schemas:
    """The schemas that the MLflow of this image knows."""

    mlflow: str
    head: str
    known: frozenset[str]

    @classmethod
    def read(cls) -> Schemas:
        """Read the migrations of MLflow's package; Alembic would run them all, and with them import MLflow."""
        spec = importlib.util.find_spec("mlflow")
        if spec is None or spec.origin is None:
            raise MlopsError("There is no MLflow in the image of the tracking server.")
        folder = Path(spec.origin).parent / "store" / "db_migrations" / "versions"
        scripts = [constants(path.read_text(encoding="utf-8")) for path in folder.glob("*.py")]
        known = frozenset(script["revision"] for script in scripts if "revision" in script)
        (head,) = known - {script.get("down_revision") for script in scripts}
        return cls(importlib.metadata.version("mlflow"), head, known)

    def refuse_unknown(self, schema: str, mlflow: str) -> None:
        """MlopsError for a schema that this MLflow does not know."""
        if schema not in self.known:
            raise MlopsError(
                f"The backup was made by MLflow {mlflow} and has the database schema {schema}, which MLflow"
                f" {self.mlflow} in this cluster does not know (its newest is {self.head}). Nothing was changed. Deploy"
                f" MLflow {mlflow} (mlflow_version), or restore a backup that MLflow {self.mlflow} made."
            )


def upgrade(path: Path) -> None:
    """Bring the database, which no server uses yet, to the schema of this MLflow."""
    from mlflow.store.db.utils import _upgrade_db  # noqa: PLC0415 (what `mlflow db upgrade` calls)
    from sqlalchemy import create_engine  # noqa: PLC0415

    engine = create_engine(f"sqlite:///{path}")
    try:
        _upgrade_db(engine)
    finally:
        engine.dispose()
