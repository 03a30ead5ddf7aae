# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell, as JSON, what the tracking server's database and volume hold. It runs in the server's pod and only reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy

DAY = 86_400_000  # ms
STAGES = ("experiments", "runs", "logged_models")
TABLES = ("registered_models", "model_versions", "trace_info")


def database(uri: str) -> dict[str, Any]:
    """The counts, the runs that began on each day (ms since 1970), and the size where the database is a file."""
    path = uri.removeprefix("sqlite:///")
    size = None
    if path != uri:
        size = sum(file.stat().st_size for file in Path(path).parent.glob(f"{Path(path).name}*"))
        uri = f"sqlite:///file:{path}?mode=ro&uri=true"
    with sqlalchemy.create_engine(uri).connect() as connection:

        def rows(query: str) -> list[Any]:
            return list(connection.execute(sqlalchemy.text(query)))

        counts = {table: rows(f"SELECT COUNT(*) FROM {table}")[0][0] for table in TABLES}  # noqa: S608
        for table in STAGES:
            stages = dict(map(tuple, rows(f"SELECT lifecycle_stage, COUNT(*) FROM {table} GROUP BY lifecycle_stage")))  # noqa: S608
            counts |= {table: stages.get("active", 0), f"deleted_{table}": stages.get("deleted", 0)}
        day = f"start_time - start_time % {DAY}"
        query = f"SELECT {day}, COUNT(*) FROM runs WHERE lifecycle_stage = 'active' AND start_time > 0"  # noqa: S608
        days = sorted((int(begin), count) for begin, count in rows(f"{query} GROUP BY {day}"))
    return {"counts": counts, "runs_by_day": days, "database_bytes": size}


def artifacts(root: str) -> dict[str, Any]:
    """Number and size of the artifacts on the volume; nothing where they are elsewhere."""
    if not root.startswith("/"):
        return {"artifact_files": None, "artifact_bytes": None}
    sizes = [os.lstat(os.path.join(folder, name)).st_size for folder, _dirs, names in os.walk(root) for name in names]
    return {"artifact_files": len(sizes), "artifact_bytes": sum(sizes)}


def content(environment: Mapping[str, str], volume: str) -> dict[str, Any]:
    """All of it."""
    room = os.statvfs(volume)
    return {
        **database(environment["MLFLOW_BACKEND_STORE_URI"]),
        **artifacts(environment["MLFLOW_ARTIFACTS_DESTINATION"]),
        "free_bytes": room.f_bavail * room.f_frsize,
        "volume_bytes": room.f_blocks * room.f_frsize,
    }


if __name__ == "__main__":
    print(json.dumps(content(os.environ, "/mlflow")))
