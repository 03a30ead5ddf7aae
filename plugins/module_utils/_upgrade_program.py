# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the database to the schema of another MLflow, in a pod of that MLflow's image, so that it can be taken back.

    look      tell the schema of the database, and whether this MLflow knows it; a server may run
    migrate   put a migrated copy in the place of the database, which is kept beside it
    back      put the kept database back
    finish    remove the kept database; a server may run

Each can be killed and repeated. The live database is the old one or the migrated one at any moment, never one that is
half migrated; the artifacts are not touched.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils import _backup_database as database
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

TERMINATION = Path("/dev/termination-log")


def kept(live: Path) -> Path:
    """Where the database of before is kept: beside the live one, for a rename to be enough."""
    return live.with_name(f"{live.name}.before-upgrade")


def unfinished(live: Path) -> Path:
    """The copy that is being migrated."""
    return live.with_name(f"{live.name}.upgrading")


def log_files(path: Path) -> list[Path]:
    """What SQLite keeps beside a database that is in use."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def remove_copy(live: Path) -> None:
    """Remove what a killed migration left."""
    for path in (unfinished(live), *log_files(unfinished(live))):
        path.unlink(missing_ok=True)


def settle(live: Path) -> None:
    """Bring what the write-ahead log holds into the database, which nobody has open, so that the file is all of it."""
    with closing(sqlite3.connect(f"{live.as_uri()}?mode=rw", uri=True)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if any(path.exists() for path in log_files(live)):
        raise MlopsError(f"Somebody has the database {live} open. It was not changed.")


def look(live: Path) -> dict[str, Any]:
    """The schema of the live database beside those that this MLflow knows."""
    schemas = database.Schemas.read()
    try:
        with closing(sqlite3.connect(f"{live.as_uri()}?mode=rw", uri=True, timeout=60)) as connection:
            ((schema,),) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except (sqlite3.Error, ValueError) as error:
        raise MlopsError(f"{live} is not a database of MLflow: {error}.") from error
    return {"schema": schema, "head": schemas.head, "known": schema in schemas.known, "mlflow": schemas.mlflow}


def migrate(live: Path) -> dict[str, Any]:
    """Put a migrated copy in the place of the live database, unless it is there already; no server may run."""
    remove_copy(live)
    before = look(live)
    if kept(live).exists() and before["schema"] == before["head"]:
        return before | {"migrated": False}
    settle(live)
    copied = unfinished(live)
    try:
        database.copy(live, copied)
        database.upgrade(copied)
        database.check_integrity(copied)
        if database.schema_of(copied) != before["head"]:
            raise MlopsError(f"The migration ended with another schema than {before['head']}.")
        copied.chmod(live.stat().st_mode & 0o777)
    except BaseException:
        remove_copy(live)
        raise
    kept(live).unlink(missing_ok=True)  # by a migration that was killed here: another name of the live one
    os.link(live, kept(live))
    os.sync()
    copied.replace(live)
    os.sync()
    return before | {"migrated": True}


def back(live: Path) -> dict[str, Any]:
    """Put the database of before in the place of the live one, where there was a migration; no server may run."""
    remove_copy(live)
    there = kept(live).exists()
    if there:
        with suppress(sqlite3.Error):  # whatever state it is in, it goes
            settle(live)
        for path in log_files(live):
            path.unlink(missing_ok=True)
        kept(live).replace(live)
        kept(live).unlink(missing_ok=True)  # a rename does nothing where both are names of one file
        os.sync()
    return {"taken_back": there}


def finish(live: Path) -> dict[str, Any]:
    """Remove the database of before."""
    remove_copy(live)
    kept(live).unlink(missing_ok=True)
    return {}


STEPS = {"look": look, "migrate": migrate, "back": back, "finish": finish}


def main(step: str) -> int:
    """Run a step; the exit code is 1 where it failed."""
    try:
        live = database.sqlite_path(os.environ.get("MLFLOW_BACKEND_STORE_URI", ""))
        TERMINATION.write_text(json.dumps(STEPS[step](live)))
    except MlopsError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
