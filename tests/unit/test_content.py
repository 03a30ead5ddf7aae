# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the status asks in the server's pod, on a small database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mlflow_content import DAY, TABLES, artifacts, content


def test_counts_days_and_sizes(tmp_path: Path) -> None:
    database, root = tmp_path / "mlflow.db", tmp_path / "artifacts"
    (root / "0/run").mkdir(parents=True)
    (root / "0/run/a").write_bytes(bytes(10))
    (root / "b").write_bytes(bytes(5))
    with sqlite3.connect(database) as made:
        for table in TABLES:
            made.execute(f"CREATE TABLE {table} (id)")
        for table in ("experiments", "runs", "logged_models"):
            made.execute(f"CREATE TABLE {table} (lifecycle_stage, start_time)")
        made.executemany("INSERT INTO experiments VALUES (?, 0)", [("active",), ("deleted",), ("active",)])
        times = [5 * DAY + 1, 5 * DAY, 9 * DAY + 7, 0, None]  # the last two came from no clock
        made.executemany("INSERT INTO runs VALUES ('active', ?)", [(time,) for time in times])
        made.execute("INSERT INTO runs VALUES ('deleted', ?)", (DAY,))
        made.execute("INSERT INTO model_versions VALUES (1)")
    environment = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{database}", "MLFLOW_ARTIFACTS_DESTINATION": str(root)}
    found = content(environment, str(tmp_path))
    assert found.pop("free_bytes") < found.pop("volume_bytes")
    assert found == {
        "counts": {
            **dict.fromkeys(TABLES, 0),
            "model_versions": 1,
            "experiments": 2,
            "deleted_experiments": 1,
            "runs": 5,
            "deleted_runs": 1,
            "logged_models": 0,
            "deleted_logged_models": 0,
        },
        "runs_by_day": [(5 * DAY, 2), (9 * DAY, 1)],
        "database_bytes": database.stat().st_size,
        "artifact_files": 2,
        "artifact_bytes": 15,
    }


def test_artifacts_elsewhere() -> None:
    assert artifacts("s3://bucket") == {"artifact_files": None, "artifact_bytes": None}
