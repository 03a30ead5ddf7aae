"""Migrations of a small database and the way back, killed at each step."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _backup_database as database
from ansible_collections.mlops.mlflow.plugins.module_utils import _upgrade_program as program
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

HEAD, OLDER = "head", "older"


class KilledError(BaseException):
    """The process ends here."""


def migrate(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (HEAD,))


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of the older schema, with a run in its write-ahead log."""
    schemas = database.Schemas("3.17.2", HEAD, frozenset({HEAD, OLDER}))
    monkeypatch.setattr(database.Schemas, "read", classmethod(lambda cls: schemas))
    monkeypatch.setattr(database, "upgrade", migrate)
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("CREATE TABLE runs (name TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (OLDER,))
        connection.commit()
    path.chmod(0o640)
    log(path, "first")
    return path


def log(path: Path, name: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO runs VALUES (?)", (name,))


def content(path: Path) -> tuple[str, list[str]]:
    with closing(sqlite3.connect(path)) as connection:
        ((schema,),) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        return schema, [name for (name,) in connection.execute("SELECT name FROM runs")]


def files(live: Path) -> list[str]:
    return sorted(path.name for path in live.parent.iterdir())


def test_there_and_done(live: Path) -> None:
    assert program.look(live) == {"schema": OLDER, "head": HEAD, "known": True, "mlflow": "3.17.2"}
    assert program.migrate(live)["migrated"]
    assert live.stat().st_mode & 0o777 == 0o640
    log(live, "second")
    program.finish(live)
    assert content(live) == (HEAD, ["first", "second"])
    assert files(live) == ["mlflow.db"]


def test_there_and_back(live: Path) -> None:
    program.migrate(live)
    log(live, "by the new server")
    assert program.back(live) == {"taken_back": True}
    assert content(live) == (OLDER, ["first"])
    assert files(live) == ["mlflow.db"]
    assert program.back(live) == {"taken_back": False}
    assert content(live) == (OLDER, ["first"])


def test_what_the_new_server_wrote_survives_a_repetition(live: Path) -> None:
    program.migrate(live)
    log(live, "second")
    assert not program.migrate(live)["migrated"]
    assert content(live) == (HEAD, ["first", "second"])


@pytest.mark.parametrize("where", ["copy", "upgrade", "link", "sync"])
@pytest.mark.parametrize("then", ["migrate", "back"])
def test_a_migration_that_was_killed(live: Path, monkeypatch: pytest.MonkeyPatch, where: str, then: str) -> None:
    def kill(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(program, "remove_copy", lambda live: None)
        patch.setattr(database if where in ("copy", "upgrade") else os, where, kill)
        with pytest.raises(KilledError):
            program.migrate(live)
    program.STEPS[then](live)
    assert content(live) == (HEAD if then == "migrate" else OLDER, ["first"])
    program.finish(live)
    assert files(live) == ["mlflow.db"]


def test_a_migration_that_fails_leaves_the_database(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "upgrade", lambda path: None)
    with pytest.raises(MlopsError, match="another schema than head"):
        program.migrate(live)
    assert content(live) == (OLDER, ["first"])
    assert files(live) == ["mlflow.db"]


def test_a_database_in_use_is_left_alone(live: Path) -> None:
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("INSERT INTO runs VALUES ('not committed')")
        with pytest.raises(MlopsError, match="has the database"):
            program.migrate(live)
    assert content(live) == (OLDER, ["first"])


def test_between_versions_of_one_schema(live: Path) -> None:
    program.migrate(live)
    program.finish(live)
    log(live, "second")
    program.migrate(live)
    program.back(live)
    assert content(live) == (HEAD, ["first", "second"])
    assert files(live) == ["mlflow.db"]


def test_what_is_no_database_of_mlflow(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    sqlite3.connect(path).close()
    path.touch()
    with pytest.raises(MlopsError, match="not a database of MLflow"):
        program.look(path)
