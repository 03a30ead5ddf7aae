"""Backups in a bucket (versitygw) of an instance with its artifacts on S3 as well, by hand and by the CronJob."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from e2e.s3 import ACCESS_KEY, PORT, SECRET_KEY, Gateway, server_name, serving
from e2e.tracked import State, Writer, state_of
from mlflow import MlflowClient
from rig import Deployment, Play, PlaybookRunner, Sandbox

BACKUP, RESTORE = "playbooks/backup.yml", "playbooks/restore.yml"
GATEWAY_NAMESPACE = "mlops-test-backup-s3"
ARTIFACTS, BACKUPS = "artifacts", "backups"
NAMESPACE = "mlflow-backup-s3"
USERS_SECRET = "keys-of-s3"
ENDPOINT = f"https://{server_name(GATEWAY_NAMESPACE)}:{PORT}"
INSTANCE = {
    "mlflow_instance": "backup-s3",
    "mlflow_namespace": NAMESPACE,
    "mlflow_volume_name": "backup-s3-volume",
    "mlflow_data_path": "/data/mlflow-backup-s3",
    "mlflow_ingress_host": "backup-s3.local",
    "mlflow_workers": 1,
    "mlflow_verify_timeout": 30,
    "mlflow_artifact_store": "s3",
    "mlflow_s3_endpoint": ENDPOINT,
    "mlflow_s3_bucket": ARTIFACTS,
    "mlflow_s3_prefix": "team/mlflow",
    "mlflow_s3_access_key": ACCESS_KEY,
    "mlflow_s3_secret_key": SECRET_KEY,
    "mlflow_backup_target": "s3",
    "mlflow_backup_s3_endpoint": ENDPOINT,
    "mlflow_backup_s3_bucket": BACKUPS,
}
KEYS = {"mlflow_backup_s3_access_key": ACCESS_KEY, "mlflow_backup_s3_secret_key": SECRET_KEY}
MADE = "step | Run it in the cluster alone: make"

Run = Callable[..., Play]


@pytest.fixture(scope="module")
def gateway(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(sandbox, tmp_path_factory.mktemp("versitygw"), GATEWAY_NAMESPACE, [ARTIFACTS, BACKUPS]) as found:
        yield found


@pytest.fixture(scope="module")
def run(playbook: PlaybookRunner, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a playbook for the instance; the variables are in a file, as a vault's would be."""
    path = tmp_path_factory.mktemp("variables") / "variables.json"
    authorities = {name: str(gateway.ca) for name in ("mlflow_s3_ca_bundle", "mlflow_backup_s3_ca_bundle")}

    def of_instance(name: str, more: Mapping[str, Any] = KEYS, **options: Any) -> Play:
        path.write_text(json.dumps(INSTANCE | authorities | dict(more)))
        play = playbook(name, None, "-vvv", "--diff", "-e", f"@{path}", **options)
        if name == "playbooks/teardown.yml":
            return play  # kubernetes.core shows what it removes
        encoded = base64.b64encode(SECRET_KEY.encode()).decode().rstrip("=")
        assert not [form for form in (SECRET_KEY, encoded) if form in play.output], f"a key is shown in {play.log}"
        return play

    return of_instance


@pytest.fixture(scope="module")
def instance(sandbox: Sandbox, run: Run, gateway: Gateway) -> Iterator[Deployment]:
    removal = {"mlflow_teardown_data": True}
    run("playbooks/teardown.yml", removal)
    run("site.yml")
    try:
        yield Deployment.read(sandbox, NAMESPACE)
    finally:
        run("playbooks/teardown.yml", removal)


@pytest.fixture(scope="module")
def backed_up(run: Run, instance: Deployment) -> Writer:
    """What was written before the first backup."""
    writer = Writer(instance.service)
    writer.start()
    writer.wait_for(5)
    writer.stopping.set()
    writer.join(30)
    assert MADE in run(BACKUP).changed_tasks
    return writer


def backups(gateway: Gateway) -> list[str]:
    return sorted(key for key in gateway.objects(BACKUPS) if "/backups/" in key)


def test_a_backup_is_in_the_bucket(gateway: Gateway, backed_up: Writer) -> None:
    (key,) = backups(gateway)
    assert key.startswith("backup-s3/backups/")
    manifest = json.loads(gateway.client.get_object(Bucket=BACKUPS, Key=key)["Body"].read())
    assert {each["path"] for each in manifest["artifacts"]} == {
        key.removeprefix("team/mlflow/") for key in gateway.objects(ARTIFACTS)
    }
    names = {Path(each).name for each in gateway.objects(BACKUPS) if "/objects/" in each}
    assert names == {f"{each['sha256']}.gz" for each in (manifest["database"], *manifest["artifacts"])}
    assert not [key for key in gateway.objects(BACKUPS) if "/running/" in key]


def test_everything_is_restored(
    sandbox: Sandbox, run: Run, gateway: Gateway, instance: Deployment, backed_up: Writer, tmp_path: Path
) -> None:
    """Objects that are gone or were overwritten come back; what the backup does not have is left where it is."""
    before, artifacts = state_of(instance.service, tmp_path / "before"), gateway.objects(ARTIFACTS)
    gone, overwritten, *_ = sorted(artifacts)
    gateway.client.delete_object(Bucket=ARTIFACTS, Key=gone)
    gateway.client.put_object(Bucket=ARTIFACTS, Key=overwritten, Body=b"overwritten")
    client = MlflowClient(instance.service)
    client.log_text(client.create_run(client.create_experiment("Later")).info.run_id, "later\n", "later.txt")
    (later,) = gateway.objects(ARTIFACTS).keys() - artifacts.keys()

    run(RESTORE)
    assert gateway.objects(ARTIFACTS).keys() - artifacts.keys() == {later}
    assert {key: found for key, found in gateway.objects(ARTIFACTS).items() if key != later} == artifacts
    now: State = state_of(Deployment.read(sandbox, NAMESPACE).service, tmp_path / "after")
    assert now == before


def test_a_damaged_object_is_refused(run: Run, gateway: Gateway, instance: Deployment, backed_up: Writer) -> None:
    key = next(each for each in gateway.objects(BACKUPS) if "/objects/" in each)
    body = gateway.client.get_object(Bucket=BACKUPS, Key=key)["Body"].read()
    gateway.client.put_object(Bucket=BACKUPS, Key=key, Body=body[:-8])
    artifacts = gateway.objects(ARTIFACTS)
    refused = run(RESTORE, rc=2)
    assert "is damaged" in refused.output
    assert "stop | Scale the server down" not in refused.output
    assert gateway.objects(ARTIFACTS) == artifacts
    gateway.client.put_object(Bucket=BACKUPS, Key=key, Body=body)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (KEYS | {"mlflow_backup_s3_secret_key": "Wr0ng+s3cret"}, "signature"),
        (KEYS | {"mlflow_backup_s3_bucket": "no-such-bucket"}, "bucket does not exist"),
        ({"mlflow_backup_s3_secret": "missing"}, "There is no Secret missing (mlflow_backup_s3_secret)"),
    ],
)
def test_a_wrong_setting_is_told_with_the_words_of_s3(
    run: Run, backed_up: Writer, variables: dict[str, str], words: str
) -> None:
    refused = run(BACKUP, variables, rc=2)
    assert words in " ".join(refused.output.split())


def test_the_schedule(sandbox: Sandbox, run: Run, gateway: Gateway, backed_up: Writer) -> None:
    """The CronJob's own Job, with keys from a Secret of the user's, makes a backup that sends nothing and keeps two."""
    namespaced = ("-n", NAMESPACE)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": USERS_SECRET, "namespace": NAMESPACE},
        "stringData": {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY},
    }
    sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(secret))
    variables = {
        "mlflow_backup_s3_secret": USERS_SECRET,
        "mlflow_backup_schedule": "30 2 * * *",
        "mlflow_backup_keep": 2,
    }
    assert "apply | Apply and prune the objects: backup-schedule" in run(BACKUP, variables).changed_tasks
    before, names = gateway.objects(BACKUPS).keys(), backups(gateway)
    sandbox.kubectl("create", "job", *namespaced, "--from=cronjob/mlflow-deployment-backup", "fired")
    sandbox.kubectl("wait", *namespaced, "--for=condition=Complete", "job/fired", "--timeout=90s")
    assert len(backups(gateway)) == 2
    assert backups(gateway)[0] == names[-1]
    new = {key for key in gateway.objects(BACKUPS).keys() - before if "/objects/" in key}
    assert new == set()
    (pod,) = sandbox.objects("pod", *namespaced, "-l", "batch.kubernetes.io/job-name=fired")
    said = json.loads(pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"])
    assert (said["new_objects"], said["kept"]) == (0, 2)

    again = run(BACKUP, variables)
    assert again.changed_tasks == [MADE]
    run(BACKUP, KEYS)
    deadline = time.monotonic() + 30
    while sandbox.objects("cronjob", *namespaced):
        assert time.monotonic() < deadline
        time.sleep(1)
