"""Backups and restores of a small instance, in directories and without a cluster."""

from __future__ import annotations

import os
import queue
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _backup_database as database
from ansible_collections.mlops.mlflow.plugins.module_utils import _backup_manifest as manifest
from ansible_collections.mlops.mlflow.plugins.module_utils import _backup_restore as restore
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_artifacts import Files
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_content import compressed, opened
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_make import make
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_pipe import Ends, Remote, serve
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_store import Directory, find, verify
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

HEAD, OLDER = "head", "older"
LARGE = os.urandom(9 << 20)  # more than is kept in memory


@dataclass
class Instance:
    """A volume as MLflow has one, with a repository beside it."""

    root: Path
    said: list[str]

    @property
    def file(self) -> Path:
        return self.root / "volume/db/mlflow.db"

    @property
    def artifacts(self) -> Path:
        return self.root / "volume/artifacts"

    @property
    def volume(self) -> restore.Volume:
        names = ("mlflow.db", "mlflow.db-wal", "mlflow.db-shm")
        live = {name: self.file.with_name(name) for name in names} | {"artifacts": self.artifacts}
        return restore.Volume(self.root / "volume" / restore.FOLDER, live)

    @property
    def files(self) -> Files:
        return Files(self.artifacts, self.volume.new("artifacts"))

    @property
    def store(self) -> Directory:
        return Directory(str(self.root / "repository"))

    def write(self, path: str, content: bytes) -> None:
        (self.artifacts / path).parent.mkdir(parents=True, exist_ok=True)
        (self.artifacts / path).write_bytes(content)

    def execute(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute(statement, values)

    def backup(
        self, store: Any = None, keep: int = 7, files: Files | None = None, name: str = "mlflow"
    ) -> dict[str, Any]:
        spool = self.root / "spool"
        options: dict[str, Any] = {"instance": name, "keep": keep, "tell": self.said.append}
        options["check"] = restore.unrestored(self.volume)
        return make(store or self.store, files or self.files, self.file, spool, **options)

    def stage(self, wanted: str = "latest", store: Any = None) -> dict[str, Any]:
        return restore.stage(store or self.store, wanted, self.volume, self.files, self.said.append)

    def state(self) -> dict[str, bytes | list[Any]]:
        """All that a server would find."""
        found: dict[str, bytes | list[Any]] = {
            str(path.relative_to(self.artifacts)): path.read_bytes()
            for path in self.artifacts.rglob("*")
            if path.is_file()
        }
        with closing(sqlite3.connect(self.file)) as connection:
            found["rows"] = connection.execute("SELECT * FROM runs").fetchall()
        return found


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    schemas = database.Schemas("3.17.2", HEAD, frozenset({HEAD, OLDER}))
    monkeypatch.setattr(database.Schemas, "read", classmethod(lambda cls: schemas))
    found = Instance(tmp_path, [])
    found.file.parent.mkdir(parents=True)
    found.execute("PRAGMA journal_mode=WAL")
    found.execute("CREATE TABLE alembic_version (version_num TEXT)")
    found.execute("INSERT INTO alembic_version VALUES (?)", HEAD)
    found.execute("CREATE TABLE runs (name TEXT)")
    found.execute("INSERT INTO runs VALUES ('first')")
    found.write("1/run/artifacts/a.txt", b"a\n" * 1000)
    found.write("1/run/artifacts/the same.txt", b"a\n" * 1000)
    found.write("1/run/artifacts/empty", b"")
    found.write("1/run/artifacts/large.bin", LARGE)
    return found


def test_unchanged_data_is_not_sent_again(instance: Instance) -> None:
    first = instance.backup()
    assert (first["artifacts"], first["objects"], first["new_objects"]) == (4, 4, 4)
    assert first["stored_bytes"] < first["bytes"]
    second = instance.backup()
    assert (second["new_objects"], second["stored_bytes"], second["kept"]) == (0, 0, 2)
    instance.write("2/run/artifacts/new.txt", b"new")
    assert instance.backup()["new_objects"] == 1
    assert not instance.store.keys(manifest.RUNNING)


def test_what_is_missing_in_the_repository_is_sent_anew(instance: Instance) -> None:
    instance.backup()
    named = find(instance.store, "latest")
    for key in named.objects:
        (Path(instance.store.place) / key).unlink()
    assert instance.backup()["new_objects"] == len(named.objects)
    verify(instance.store, find(instance.store, "latest"))


def test_retention_removes_what_no_other_backup_names(instance: Instance) -> None:
    instance.write("1/old", b"old")
    first = instance.backup(keep=1)
    (instance.artifacts / "1/old").unlink()
    before = set(instance.store.keys(manifest.OBJECTS))
    second = instance.backup(keep=1)
    assert (second["kept"], second["removed"]) == (1, [first["name"]])
    assert len(before - set(instance.store.keys(manifest.OBJECTS))) == 1
    verify(instance.store, find(instance.store, "latest"))


def test_retention_waits_for_another_backup(instance: Instance) -> None:
    other = manifest.running_key(manifest.new_name(datetime.now(UTC)))
    instance.backup(keep=1)
    instance.store.write(other, [])
    assert instance.backup(keep=1)["kept"] == 2
    instance.store.remove([other])
    assert instance.backup(keep=1)["kept"] == 1


def test_retention_removes_no_object_where_a_manifest_cannot_be_read(instance: Instance) -> None:
    instance.backup(keep=2)
    broken = Path(instance.store.place) / manifest.backup_key(instance.backup(keep=2)["name"])
    broken.write_text("{")
    before = set(instance.store.keys(manifest.OBJECTS))
    instance.backup(keep=2)
    assert before <= set(instance.store.keys(manifest.OBJECTS))
    assert "cannot be read" in " ".join(instance.said)


def test_a_repository_belongs_to_one_instance(instance: Instance) -> None:
    instance.backup()
    with pytest.raises(MlopsError, match="holds the backups of the instance mlflow, not of other"):
        instance.backup(name="other")


class Meanwhile(Files):
    """Artifacts that somebody changes after each listing."""

    def __init__(self, instance: Instance, changes: Iterator[Callable[[], Any]]) -> None:
        super().__init__(instance.artifacts, instance.volume.new("artifacts"))
        self._changes = changes

    def entries(self) -> dict[str, manifest.Entry]:
        found = super().entries()
        next(self._changes, lambda: None)()
        return found


def test_what_changes_meanwhile_is_read_again(instance: Instance) -> None:
    changes = iter([lambda: instance.write("1/run/artifacts/a.txt", b"changed"), lambda: instance.write("late", b"l")])
    instance.backup(files=Meanwhile(instance, changes))
    instance.artifacts.rename(instance.root / "gone")
    instance.stage()
    assert (instance.volume.new("artifacts") / "1/run/artifacts/a.txt").read_bytes() == b"changed"


def test_the_database_is_copied_again_where_an_artifact_is_removed(instance: Instance) -> None:
    def collect_garbage() -> None:
        (instance.artifacts / "1/run/artifacts/large.bin").unlink()
        instance.execute("DELETE FROM runs")

    made = instance.backup(files=Meanwhile(instance, iter([collect_garbage])))
    assert made["artifacts"] == 3
    instance.stage()
    with closing(sqlite3.connect(instance.volume.new("mlflow.db"))) as connection:
        assert connection.execute("SELECT * FROM runs").fetchall() == []


def test_a_restore_brings_everything_back(instance: Instance) -> None:
    before = instance.state()
    stamps = {path: entry.stamp for path, entry in instance.files.entries().items()}
    made = instance.backup()
    shutil.rmtree(instance.artifacts)
    instance.write("1/other", b"other")
    instance.execute("INSERT INTO runs VALUES ('later')")
    assert instance.stage()["interrupted"] is False
    assert "1/other" in instance.state()  # what is live is not touched yet
    restore.swap(instance.volume, instance.files, made["name"])
    restore.finish(instance.volume, instance.files, made["name"])
    assert instance.state() == before
    assert {path: entry.stamp for path, entry in instance.files.entries().items()} == stamps
    assert not instance.volume.root.exists()


def test_a_restore_into_nothing(instance: Instance) -> None:
    before = instance.state()
    made = instance.backup()
    shutil.rmtree(instance.artifacts)
    shutil.rmtree(instance.file.parent)
    instance.stage()
    restore.swap(instance.volume, instance.files, made["name"])
    assert instance.state() == before
    restore.undo(instance.volume, instance.files)
    assert not instance.file.exists()
    assert not instance.artifacts.exists()


class KilledError(Exception):
    pass


@pytest.mark.parametrize("moves", range(12))
def test_a_restore_that_was_killed_is_undone(instance: Instance, monkeypatch: pytest.MonkeyPatch, moves: int) -> None:
    """After any number of moves, in the exchange or in the undoing itself."""
    made = instance.backup()
    instance.execute("INSERT INTO runs VALUES ('later')")
    instance.write("1/later", b"later")
    before = instance.state()
    left = [moves]
    rename = Path.rename

    def until_killed(self: Path, target: Path) -> Path:
        if left[0] == 0:
            raise KilledError
        left[0] -= 1
        return rename(self, target)

    instance.stage()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", until_killed)
        try:
            restore.swap(instance.volume, instance.files, made["name"])
            restore.undo(instance.volume, instance.files)
        except KilledError:
            pass
    if restore.touched(instance.volume.state()):
        assert instance.stage() == {"interrupted": True}
        with pytest.raises(MlopsError, match="A restore is not finished"):
            restore.unrestored(instance.volume)
    restore.undo(instance.volume, instance.files)
    assert instance.state() == before
    restore.unrestored(instance.volume)
    assert instance.stage()["interrupted"] is False


def test_a_backup_during_a_restore_is_not_kept(instance: Instance) -> None:
    name = instance.backup()["name"]
    instance.stage()

    def exchange() -> None:
        restore.swap(instance.volume, instance.files, name)
        restore.finish(instance.volume, instance.files, name)

    with pytest.raises(MlopsError, match="restored meanwhile"):
        instance.backup(files=Meanwhile(instance, iter([exchange])))
    assert len(instance.store.keys(manifest.BACKUPS)) == 1


def test_two_restores_at_once(instance: Instance) -> None:
    instance.backup()
    with instance.volume.alone(), pytest.raises(MlopsError, match="Another restore"):
        instance.stage()
    with pytest.raises(MlopsError, match="no longer staged"):
        restore.swap(instance.volume, instance.files, "20261124T103000.123456Z")


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-9], lambda content: content[:40] + b"x" + content[41:], None]
)
def test_a_damaged_object_is_found_before_anything_is_touched(
    instance: Instance, damage: Callable[[bytes], bytes] | None
) -> None:
    instance.backup()
    backup = find(instance.store, "latest")
    key = next(manifest.object_key(each.sha256) for each in backup.artifacts if each.path.endswith("a.txt"))
    path = Path(instance.store.place) / key
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(MlopsError, match=r"1 of its 4 objects are missing or damaged. Nothing was changed."):
        verify(instance.store, backup)
    before = instance.state()
    with pytest.raises(MlopsError, match="damaged"):
        instance.stage()
    assert instance.state() == before
    assert not instance.volume.root.exists()


def test_a_newer_schema_is_refused(instance: Instance) -> None:
    instance.execute("UPDATE alembic_version SET version_num = 'newer'")
    instance.backup()
    with pytest.raises(MlopsError, match=r"schema newer, which MLflow 3.17.2 in this cluster does not know"):
        instance.stage()


def test_an_older_schema_is_brought_up_to_date(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    upgraded: list[Path] = []
    monkeypatch.setattr(database, "upgrade", upgraded.append)
    instance.execute("UPDATE alembic_version SET version_num = ?", OLDER)
    instance.backup()
    assert instance.stage()["upgraded"] is True
    assert upgraded == [instance.volume.new("mlflow.db")]


def test_a_full_volume_is_refused(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    instance.backup()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(MlopsError, match="Nothing was changed"):
        instance.stage()


@pytest.mark.parametrize("uri", ["postgresql://mlflow@db/mlflow", "sqlite://", "", "mysql+pymysql://x"])
def test_other_databases_are_refused(uri: str) -> None:
    with pytest.raises(MlopsError, match="only SQLite"):
        database.sqlite_path(uri)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    with pytest.raises(MlopsError, match="cannot be copied"):
        database.copy(tmp_path / "mlflow.db", tmp_path / "copy")
    with pytest.raises(MlopsError, match="database of the backup is damaged"):
        database.check_integrity(tmp_path / "mlflow.db")


def test_mlflows_own_schemas(tmp_path: Path) -> None:
    """Against the real package: an old database is recognised, and brought up to date."""
    from alembic import command  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from mlflow.store.db.utils import _get_alembic_config  # noqa: PLC0415
    from mlflow.store.tracking.dbmodels.initial_models import Base  # noqa: PLC0415
    from sqlalchemy import create_engine  # noqa: PLC0415

    schemas, old, path = database.Schemas.read(), "451aebb31d03", tmp_path / "mlflow.db"
    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    assert schemas.head == scripts.get_current_head()
    assert schemas.known == {script.revision for script in scripts.walk_revisions()}
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    engine.dispose()
    command.upgrade(_get_alembic_config(f"sqlite:///{path}"), old)
    assert database.schema_of(path) == old
    database.upgrade(path)
    assert database.schema_of(path) == schemas.head
    database.check_integrity(path)
    with pytest.raises(MlopsError, match=r"MLflow 9.9 \(mlflow_version\)"):
        schemas.refuse_unknown("ffffffffffff", "9.9")


@pytest.mark.parametrize("content", [b"", b"a" * 3_000_000, LARGE])
def test_contents_survive_compression(content: bytes) -> None:
    packed = list(compressed(iter([content[:100], content[100:]])))
    sha256 = database.sha256_of(iter([content]))
    assert b"".join(opened(iter(packed), sha256, "here")) == content


@pytest.fixture
def remote(instance: Instance) -> Iterator[tuple[Remote, queue.SimpleQueue[Any]]]:
    """The repository over a connection, and what the one who serves it ends with."""
    ours, theirs = socket.socketpair()
    outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def serving() -> None:
        try:
            with theirs, theirs.makefile("rb") as receiving, theirs.makefile("wb") as sending:
                outcome.put(serve(instance.store, Ends(receiving, sending)))
        except Exception as error:  # noqa: BLE001
            outcome.put(error)

    thread = threading.Thread(target=serving)
    thread.start()
    with ours, ours.makefile("rb") as receiving, ours.makefile("wb") as sending:
        ends = Ends(receiving, sending)
        found = Remote(ends, "controller")
        yield found, outcome
        if thread.is_alive():
            found.end({"result": "done"})
            ends.flush()
            assert outcome.get(timeout=10) == {"result": "done"}
    thread.join(10)


def test_a_backup_and_a_restore_over_a_connection(
    instance: Instance, remote: tuple[Remote, queue.SimpleQueue[Any]]
) -> None:
    before = instance.state()
    made = instance.backup(remote[0])
    assert instance.backup(remote[0], keep=1)["new_objects"] == 0
    verify(instance.store, find(instance.store, "latest"))
    assert made["name"] != find(instance.store, "latest").name
    shutil.rmtree(instance.artifacts)
    staged = instance.stage(store=remote[0])
    restore.swap(instance.volume, instance.files, staged["name"])
    assert instance.state() == before


def test_an_artifact_that_changes_while_it_is_sent(
    instance: Instance, remote: tuple[Remote, queue.SimpleQueue[Any]]
) -> None:
    """What was begun is given up, and the conversation goes on."""

    class Torn(Files):
        reads = 0

        def read(self, path: str) -> Iterator[bytes]:
            if path.endswith("large.bin"):
                self.reads += 1
                if self.reads == 2:  # after its digest was taken
                    yield b"something else"
                    return
            yield from super().read(path)

    files = Torn(instance.artifacts, instance.volume.new("artifacts"))
    assert instance.backup(remote[0], files=files)["new_objects"] == 4
    assert files.reads == 4
    verify(instance.store, find(instance.store, "latest"))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("../../etc/cron.d/x", "not the key of anything"),
        (f"objects/11/{'1' * 64}.gz", "What the pod sent for objects/11/1.* is damaged"),
    ],
)
def test_a_pod_cannot_write_what_it_likes(
    instance: Instance, remote: tuple[Remote, queue.SimpleQueue[Any]], key: str, words: str
) -> None:
    def write() -> None:
        remote[0].write(key, compressed(iter([b"anything"])))
        remote[0].keys("objects")

    with pytest.raises((EOFError, OSError)):
        write()
    error = remote[1].get(timeout=10)
    assert isinstance(error, MlopsError)
    with pytest.raises(MlopsError, match=words):
        raise error
    assert instance.store.keys("objects") == []
    assert not [path for path in instance.root.rglob("*") if path.is_file() and "volume" not in str(path)]
