"""Backups of an instance that is written to, and restores: into nothing, refused, undone, and after a kill."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _backup_manifest as manifest
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_content import (
    chunks_of,
    compressed,
    opened,
    sha256_of,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_store import Directory, find
from e2e.tracked import State, Writer, digest, owner, state_of
from mlflow import MlflowClient
from rig import REPOSITORY, Deployment, Play, PlaybookRunner, Sandbox

BACKUP, RESTORE = "playbooks/backup.yml", "playbooks/restore.yml"
INSTANCE = {
    "mlflow_instance": "backup",
    "mlflow_namespace": "mlflow-backup",
    "mlflow_volume_name": "backup-volume",
    "mlflow_data_path": "/data/mlflow-backup",
    "mlflow_ingress_host": "backup.local",
    "mlflow_workers": 1,
    "mlflow_rollout_timeout": 60,
    "mlflow_verify_timeout": 20,
}
NAMESPACED = ("-n", "mlflow-backup")
MADE = "step | Run it with the repository of the controller: make"
STAGED = "step | Run it with the repository of the controller: stage"

Run = Callable[..., Play]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backup") / "repository"


@pytest.fixture(scope="module")
def run(playbook: PlaybookRunner, directory: Path) -> Run:
    """Runs a playbook for the instance, with its repository."""
    variables = INSTANCE | {"mlflow_backup_directory": str(directory)}
    return lambda name, more=None, **options: playbook(name, variables | (more or {}), **options)


@pytest.fixture(scope="module")
def instance(sandbox: Sandbox, run: Run) -> Iterator[Deployment]:
    removal = {"mlflow_teardown_data": True}
    run("playbooks/teardown.yml", removal)
    run("site.yml")
    try:
        yield Deployment.read(sandbox, "mlflow-backup")
    finally:
        run("playbooks/teardown.yml", removal)


@pytest.fixture(scope="module")
def disaster(sandbox: Sandbox, run: Run, instance: Deployment, tmp_path_factory: pytest.TempPathFactory) -> State:
    """A backup while runs are written, then the end of all that the instance had, and a restore: what is there then."""
    client = MlflowClient(instance.service)
    experiment = client.create_experiment("Before")
    large = client.create_run(experiment, run_name="large").info.run_id
    path = tmp_path_factory.mktemp("large") / "weights.bin"
    path.write_bytes(os.urandom(24 << 20))
    client.log_artifact(large, str(path))
    client.log_dict(large, {"ü": 1}, "größe/ü 1.json")
    client.set_terminated(large)

    writer = Writer(instance.service)
    writer.start()
    writer.wait_for(4)
    acknowledged = dict(writer.written)
    made = run(BACKUP)
    writer.wait_for(1)  # the server served all the while
    writer.stopping.set()
    writer.join(30)
    assert made.changed_tasks == ["Make the directory", MADE]
    before = state_of(instance.service, tmp_path_factory.mktemp("before"))

    run("playbooks/teardown.yml", {"mlflow_teardown_data": True})
    assert "mlflow-backup" not in sandbox.node_directories()
    run("site.yml")
    restored = run(RESTORE)
    assert STAGED in restored.changed_tasks
    now = Deployment.read(sandbox, "mlflow-backup")
    return {
        "deployment": now,
        "before": before,
        "after": state_of(now.service, tmp_path_factory.mktemp("after")),
        "acknowledged": acknowledged,
        "large": (large, digest(path.read_bytes())),
        "written": writer.written,
    }


def test_everything_acknowledged_before_the_backup_is_back(disaster: State) -> None:
    before, after = disaster["before"], disaster["after"]
    run_id, body = disaster["large"]
    assert after[f"run {run_id}"]["artifacts"]["weights.bin"] == body
    for each, artifacts in disaster["acknowledged"].items():
        assert after[f"run {each}"]["artifacts"] == artifacts
    kept = [f"run {each}" for each in (run_id, *disaster["acknowledged"])]
    kept += [
        name for name, model in before.items() if name.startswith("model") and owner(model) in disaster["acknowledged"]
    ]
    assert len([name for name in kept if name.startswith("model")]) >= 1
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}


def test_everything_restored_is_whole(disaster: State) -> None:
    """Also what was written during the backup: a run that is finished has all of its artifacts, a version its run."""
    before, after = disaster["before"], disaster["after"]
    assert after.keys() <= before.keys()
    for name, found in after.items():
        if name.startswith("model"):
            assert f"run {owner(found)}" in after
        elif found["status"] == "FINISHED":
            assert found == before[name]
        else:
            assert found["artifacts"].items() <= before[name]["artifacts"].items()


def test_unchanged_data_is_not_sent_again(run: Run, disaster: State, directory: Path) -> None:
    run(BACKUP)
    objects = set(Directory(str(directory)).keys(manifest.OBJECTS))
    again = run(BACKUP)
    assert again.changed_tasks == [MADE]
    row = next(line for line in again.output.splitlines() if "MB/s" in line)
    figures = again.output.splitlines()[again.output.splitlines().index(row) + 1].strip(" -'").split()
    assert figures[1] == "0"
    assert set(Directory(str(directory)).keys(manifest.OBJECTS)) == objects
    assert len(Directory(str(directory)).keys(manifest.BACKUPS)) == 3


def test_retention(run: Run, disaster: State, directory: Path) -> None:
    names = sorted(Directory(str(directory)).keys(manifest.BACKUPS))
    kept = run(BACKUP, {"mlflow_backup_keep": 2})
    assert "2 kept, removed: " in kept.output
    assert set(names[:2]).isdisjoint(Directory(str(directory)).keys(manifest.BACKUPS))


def test_check_mode_does_nothing(run: Run, disaster: State, directory: Path) -> None:
    before = sorted(path for path in directory.rglob("*"))
    name = find(Directory(str(directory)), "latest").name
    for which, words in ((BACKUP, "Would back up backup"), (RESTORE, "Would restore")):
        play = run(which, check=True)
        assert words in play.output
        assert name in play.output
    assert sorted(path for path in directory.rglob("*")) == before


def objects(directory: Path) -> Directory:
    return Directory(str(directory))


def test_a_damaged_object_is_refused(sandbox: Sandbox, run: Run, disaster: State, directory: Path) -> None:
    backup = find(objects(directory), "latest")
    path = directory / manifest.object_key(backup.artifacts[0].sha256)
    content = path.read_bytes()
    path.write_bytes(content[:-12] + b"x" + content[-11:])
    pods = [item["metadata"]["uid"] for item in sandbox.objects("pod", *NAMESPACED)]
    refused = run(RESTORE, rc=2)
    assert refused.count("changed") == 0
    assert "missing or damaged. Nothing was changed." in " ".join(refused.output.split())
    assert [item["metadata"]["uid"] for item in sandbox.objects("pod", *NAMESPACED)] == pods
    path.write_bytes(content)


def forge(directory: Path, folder: Path, statement: str) -> str:
    """Make a backup that differs from the newest in its database; its name."""
    store = objects(directory)
    newest = find(store, "latest")
    path = folder / "mlflow.db"

    def take(key: str, chunks: Iterator[bytes]) -> None:
        path.write_bytes(b"".join(opened(chunks, newest.database.sha256, key)))

    store.fetch([manifest.object_key(newest.database.sha256)], take)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute(statement)
        ((schema,),) = connection.execute("SELECT version_num FROM alembic_version")
    with path.open("rb") as stream:
        sha256 = sha256_of(chunks_of(stream))
    with path.open("rb") as stream:
        store.write(manifest.object_key(sha256), compressed(chunks_of(stream)))
    database = manifest.Database(path.stat().st_size, sha256, schema)
    forged = manifest.Manifest("20200101T000000.000000Z", newest.instance, "99.1", database, newest.artifacts)
    store.write(manifest.backup_key(forged.name), [manifest.render(forged)])
    return forged.name


def experiments(disaster: State) -> set[str]:
    client = MlflowClient(disaster["deployment"].service)
    return {experiment.name for experiment in client.search_experiments()}


def test_a_newer_schema_is_refused(run: Run, disaster: State, directory: Path, tmp_path: Path) -> None:
    name = forge(directory, tmp_path, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = experiments(disaster)
    refused = run(RESTORE, {"mlflow_restore_backup": name}, rc=2)
    said = " ".join(refused.output.split())
    assert "made by MLflow 99.1 and has the database schema ffffffffffff" in said
    assert "stop | Scale the server down" not in refused.output
    assert experiments(disaster) == before


def test_a_state_that_is_not_healthy_is_taken_back(run: Run, disaster: State, directory: Path, tmp_path: Path) -> None:
    """A database that is whole and of the right revision, and that MLflow cannot register a model in all the same."""
    name = forge(directory, tmp_path, "ALTER TABLE registered_models DROP COLUMN description")
    before = state_of(disaster["deployment"].service, tmp_path / "before")
    failed = run(RESTORE, {"mlflow_restore_backup": name, "mlflow_verify_timeout": 8}, rc=2)
    said = " ".join(failed.output.split())
    assert "The state of before is back, and the server is healthy with it." in said
    assert "registry" in said
    assert state_of(disaster["deployment"].service, tmp_path / "after") == before
    assert run("playbooks/verify.yml").count("changed") == 0


def test_a_restore_that_was_killed_is_taken_back_by_the_next(
    sandbox: Sandbox, run: Run, disaster: State, directory: Path, playbook: PlaybookRunner
) -> None:
    """Killed with the restored state in place and no server: neither finished nor undone."""
    client = MlflowClient(disaster["deployment"].service)
    client.create_experiment("After the backup")
    variables = INSTANCE | {"mlflow_backup_directory": str(directory)}
    command = ["ansible-playbook", "-i", str(sandbox.inventory), RESTORE, "-e", json.dumps(variables)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=sandbox.environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if "step | Note its answer: swap" in line:
                break
        os.killpg(process.pid, signal.SIGKILL)
    refused = run(BACKUP, rc=2)
    assert "A restore is not finished" in refused.output

    restored = run(RESTORE)
    assert "step | Run it in the cluster alone: undo" in restored.changed_tasks
    assert "After the backup" not in experiments(disaster)
    listing = sandbox.minikube("ssh", "--", "sudo", "ls", "-A", INSTANCE["mlflow_data_path"]).split()
    assert ".mlflow-restore" not in listing


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"mlflow_backend_store_uri": "postgresql://mlflow:pa55w0rd@db/mlflow"}, "The backend store is postgresql"),
        ({"mlflow_backup_keep": 0}, "mlflow_backup_keep is 0"),
        ({"mlflow_backup_schedule": "30 2 * * *"}, "set mlflow_backup_target to s3"),
        ({"mlflow_backup_target": "s3"}, "needs a bucket"),
        ({"mlflow_restore_backup": "../x"}, "must be latest or a name such as"),
        ({"mlflow_namespace": "mlflow-nothing"}, "There is no Deployment mlflow-deployment"),
    ],
)
def test_what_cannot_be_done_is_told_first(run: Run, disaster: State, variables: dict[str, Any], words: str) -> None:
    refused = run(BACKUP, variables, rc=2)
    assert refused.count("changed") == 0
    assert words in " ".join(refused.output.split())
    assert "pa55w0rd" not in refused.output
