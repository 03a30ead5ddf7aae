"""To another MLflow with another schema and back: what fails, what is killed, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_manifest import BACKUPS, name_of
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_store import Directory
from e2e.pages import RUNBOOKS, commands, missing
from e2e.tracked import State, Writer, state_of
from mlflow import MlflowClient
from rig import REPOSITORY, Deployment, Play, PlaybookRunner, Sandbox

UPGRADE, ROLLBACK = "playbooks/upgrade.yml", "playbooks/rollback.yml"
OLD, NEW = {"mlflow_version": "3.16.0"}, {"mlflow_version": "3.17.2"}
INSTANCE = {
    "mlflow_instance": "upgrade",
    "mlflow_namespace": "mlflow-upgrade",
    "mlflow_volume_name": "upgrade-volume",
    "mlflow_data_path": "/data/mlflow-upgrade",
    "mlflow_ingress_host": "upgrade.local",
    "mlflow_workers": 1,
    "mlflow_rollout_timeout": 60,
    "mlflow_verify_timeout": 20,
}
NAMESPACED = ("-n", "mlflow-upgrade")

Run = Callable[..., Play]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("upgrade") / "repository"


@pytest.fixture(scope="module")
def plays() -> list[Play]:
    """What was run here."""
    return []


@pytest.fixture(scope="module")
def run(playbook: PlaybookRunner, directory: Path, plays: list[Play]) -> Run:
    """Runs a playbook for the instance, with its repository."""
    variables = INSTANCE | {"mlflow_backup_directory": str(directory)}

    def run(name: str, more: dict[str, Any] | None = None, **options: Any) -> Play:
        plays.append(playbook(name, variables | (more or {}), **options))
        return plays[-1]

    return run


@pytest.fixture(scope="module")
def instance(sandbox: Sandbox, run: Run) -> Iterator[Deployment]:
    """The old MLflow with some of everything in it."""
    removal = {"mlflow_teardown_data": True}
    run("playbooks/teardown.yml", removal)
    run("site.yml", OLD)
    deployment = Deployment.read(sandbox, "mlflow-upgrade")
    log_runs(deployment, 4)
    client = MlflowClient(deployment.service)
    (model,) = client.search_registered_models()
    client.set_registered_model_alias(model.name, "champion", "1")
    try:
        yield deployment
    finally:
        run("playbooks/teardown.yml", removal)


def log_runs(instance: Deployment, count: int) -> list[str]:
    """Log runs with metrics, parameters, tags and artifacts, the first with a model."""
    client = MlflowClient(instance.service)
    experiment = client.create_experiment(f"Written {len(client.search_experiments())}")
    writer = Writer(instance.service)
    return [writer.one(client, experiment) for _ in range(count)]


def holds(instance: Deployment, folder: Path) -> State:
    """All that the server holds, aliases as well."""
    client = MlflowClient(instance.service)
    aliases = {f"aliases {model.name}": dict(model.aliases) for model in client.search_registered_models()}
    return state_of(instance.service, folder) | aliases


def serving(sandbox: Sandbox) -> tuple[str, str]:
    """The version and image that run."""
    (pod,) = sandbox.objects("pod", *NAMESPACED, "-l", "app.kubernetes.io/component=tracking-server")
    return pod["metadata"]["labels"]["app.kubernetes.io/version"], pod["spec"]["containers"][0]["image"]


def nothing_is_left(sandbox: Sandbox) -> bool:
    """Whether neither the note of what is under way nor a second database is there."""
    files = sandbox.minikube("ssh", "--", "sudo", "ls", "-A", f"{INSTANCE['mlflow_data_path']}/mlflowdb").split()
    notes = sandbox.objects("configmap", *NAMESPACED, "-l", "app.kubernetes.io/component=upgrade")
    return notes == [] and set(files) <= {"mlflow.db", "mlflow.db-wal", "mlflow.db-shm"}


def said(play: Play) -> str:
    return " ".join(play.output.split())


def test_another_version_is_left_to_the_upgrade(run: Run, instance: Deployment) -> None:
    refused = run("site.yml", NEW, rc=2)
    assert refused.count("changed") == 0
    assert "MLflow 3.16.0 is deployed, and mlflow_version is 3.17.2" in said(refused)
    assert "playbooks/upgrade.yml -e mlflow_version=3.17.2" in said(refused)


def test_what_fails_before_the_server_stops_changes_nothing(sandbox: Sandbox, run: Run, instance: Deployment) -> None:
    before = serving(sandbox)
    refused = run(UPGRADE, NEW | {"mlflow_image_requirements": "/nowhere"}, rc=2)
    assert refused.count("changed") == 0
    other = run(UPGRADE, NEW | {"mlflow_backend_store_uri": "sqlite:////mlflow/other.db"}, rc=2)
    assert other.count("changed") == 0
    assert serving(sandbox) == before


def test_a_server_that_does_not_start_is_taken_back(
    sandbox: Sandbox, run: Run, instance: Deployment, tmp_path: Path
) -> None:
    """With all that the old one had, also what was logged just before."""
    image = serving(sandbox)
    (logged,) = log_runs(instance, 1)
    before = holds(instance, tmp_path / "before")
    fault = {"mlflow_environment": {"MLFLOW_WORKERS": "none"}, "mlflow_rollout_timeout": 40}
    failed = run(UPGRADE, NEW | fault, rc=2)
    assert "MLflow 3.16.0 is back with the data of before, and is healthy. What was wrong:" in said(failed)
    assert "Invalid value for '--workers'" in failed.output
    assert serving(sandbox) == image
    after = holds(instance, tmp_path / "after")
    assert f"run {logged}" in after
    assert after == before
    assert nothing_is_left(sandbox)
    assert run("site.yml", OLD).changed_tasks == []


@pytest.fixture(scope="module")
def upgraded(
    sandbox: Sandbox, run: Run, instance: Deployment, directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> State:
    """What the old MLflow held, and what the new one does."""
    folder = tmp_path_factory.mktemp("upgraded")
    checked = run(UPGRADE, NEW, check=True)
    assert "Would upgrade from MLflow 3.16.0 to 3.17.2" in said(checked)
    assert serving(sandbox)[0] == "3.16.0"
    before = holds(instance, folder / "before")
    play = run(UPGRADE, NEW)
    backup = max(map(name_of, Directory(str(directory)).keys(BACKUPS)))
    assert f"MLflow 3.16.0 became 3.17.2; the backup of before is {backup}" in said(play)
    return {"before": before, "after": holds(instance, folder / "after"), "backup": backup}


def test_everything_is_there_after_an_upgrade(sandbox: Sandbox, upgraded: State) -> None:
    assert upgraded["after"] == upgraded["before"]
    assert {"champion": "1"} in upgraded["after"].values()
    assert serving(sandbox)[0] == "3.17.2"
    assert nothing_is_left(sandbox)


def test_a_second_upgrade_changes_nothing(run: Run, upgraded: State) -> None:
    again = run(UPGRADE, NEW)
    assert (again.count("changed"), again.changed_tasks) == (0, [])
    assert "is deployed with this image already" in said(again)
    assert run("site.yml", NEW).changed_tasks == []


def test_a_version_that_does_not_know_the_database_is_refused(run: Run, upgraded: State) -> None:
    refused = run(UPGRADE, OLD, rc=2)
    assert refused.count("changed") == 0
    assert "which MLflow 3.16.0 does not know" in said(refused)
    assert "playbooks/rollback.yml" in said(refused)


def test_a_rollback_brings_version_and_data_together(
    sandbox: Sandbox, run: Run, instance: Deployment, upgraded: State, tmp_path: Path
) -> None:
    log_runs(instance, 1)
    checked = run(ROLLBACK, check=True)
    told = f"back from MLflow 3.17.2 to the backup {upgraded['backup']} of MLflow 3.16.0"
    assert f"Would go {told}" in said(checked)
    assert serving(sandbox)[0] == "3.17.2"
    play = run(ROLLBACK)
    assert f"Going {told}" in said(play)
    assert serving(sandbox)[0] == "3.16.0"
    assert holds(instance, tmp_path) == upgraded["before"]
    assert nothing_is_left(sandbox)
    assert run("site.yml", OLD).changed_tasks == []


def test_the_runbook_shows_what_was_said(plays: list[Play], upgraded: State) -> None:
    for command, shown in commands(RUNBOOKS / "upgrade-and-rollback.md"):
        name = next(word for word in command.split() if word.startswith("playbooks/"))
        tried = [
            play for play in plays if name in play.command and ("--check" in play.command) == ("--check" in command)
        ]
        assert any(play.rc == 0 and missing(shown, play.output) == [] for play in tried), command


def kill_at(words: str, playbook: str, variables: dict[str, Any], sandbox: Sandbox) -> None:
    """Run a playbook, and kill it with all that it started when it says this."""
    command = ["ansible-playbook", "-i", str(sandbox.inventory), playbook, "-e", json.dumps(variables)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=sandbox.environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout
        reached = any(words in line for line in process.stdout)
        os.killpg(process.pid, signal.SIGKILL)
    assert reached


def test_an_upgrade_that_was_killed_is_finished_by_the_next(
    sandbox: Sandbox, run: Run, instance: Deployment, upgraded: State, directory: Path, tmp_path: Path
) -> None:
    """Killed with the migrated database in place and no server."""
    before = holds(instance, tmp_path / "before")
    variables = INSTANCE | NEW | {"mlflow_backup_directory": str(directory)}
    kill_at("exchange | Roll out the new server", UPGRADE, variables, sandbox)
    refused = run("site.yml", OLD, rc=2)
    assert refused.count("changed") == 0
    assert "An upgrade or rollback was interrupted" in said(refused)
    assert "Finish it first" in said(run(ROLLBACK, rc=2))

    backups = Directory(str(directory)).keys(BACKUPS)
    run(UPGRADE, NEW)
    assert Directory(str(directory)).keys(BACKUPS) == backups
    assert serving(sandbox)[0] == "3.17.2"
    assert holds(instance, tmp_path / "after") == before
    assert nothing_is_left(sandbox)
