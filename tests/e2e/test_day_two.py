"""Collect what was deleted, and tell how an instance does: on an instance of its own, since both need one to break."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.browser import chromium, screenshot
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from rig import BUILD, Deployment, PlaybookRunner, Sandbox

VARIABLES = {
    "mlflow_instance": "day-two",
    "mlflow_namespace": "mlflow-day-two",
    "mlflow_volume_name": "day-two-volume",
    "mlflow_data_path": "/data/mlflow-day-two",
    "mlflow_ingress_host": "day-two.local",
    "mlflow_workers": 1,
}
NAMESPACE = VARIABLES["mlflow_namespace"]
GC, STATUS = "playbooks/gc.yml", "playbooks/status.yml"
SCHEDULE = "apply | Apply and prune the objects: gc-schedule"


@pytest.fixture(scope="module")
def instance(sandbox: Sandbox, playbook: PlaybookRunner) -> Iterator[Deployment]:
    removal = VARIABLES | {"mlflow_teardown_data": True}
    playbook("playbooks/teardown.yml", removal)
    playbook("site.yml", VARIABLES)
    yield Deployment.read(sandbox, NAMESPACE)
    playbook("playbooks/teardown.yml", removal)


def volume(sandbox: Sandbox) -> dict[str, str]:
    """The digest of each file of an artifact on the instance's volume; a directory has none."""
    find = "cd /data/mlflow-day-two/artifacts && find . -type f -exec sha256sum {} + -o -type d -exec echo - {} +"
    found = {}
    for line in sandbox.minikube("ssh", "--", f"sudo sh -c '{find}'").splitlines():
        digest, *paths = line.split()
        found |= {path.removeprefix("./"): digest for path in paths}
    return found


def log(client: MlflowClient, experiment: str, name: str) -> str:
    """A finished run with a metric and an artifact; its id."""
    run = client.create_run(experiment, run_name=name)
    client.log_metric(run.info.run_id, "auc", 0.75)
    client.log_text(run.info.run_id, f"{name}\n" * 1000, "notes/report.txt")
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def test_what_was_deleted_goes_and_nothing_else(
    sandbox: Sandbox, playbook: PlaybookRunner, instance: Deployment
) -> None:
    client = MlflowClient(instance.service)
    kept, gone = client.create_experiment("kept"), client.create_experiment("gone")
    living, dead = log(client, kept, "living"), log(client, kept, "dead")
    model = client.create_logged_model(kept, "model", source_run_id=living)
    log(client, gone, "in a deleted")
    (health,) = [found.experiment_id for found in client.search_experiments(ViewType.DELETED_ONLY)]
    before = volume(sandbox)
    assert f"{kept}/{dead}/artifacts/notes/report.txt" in before
    client.delete_run(dead)
    client.delete_experiment(gone)
    client.delete_logged_model(model.model_id)
    time.sleep(1)

    now = VARIABLES | {"mlflow_gc_older_than": "1s", "mlflow_gc_schedule": "30 3 * * 0"}
    checked = playbook(GC, now, check=True)
    assert checked.changed_tasks == ["run | Report: list", SCHEDULE]
    assert volume(sandbox) == before
    collected = playbook(GC, now)
    assert collected.changed_tasks == ["run | Run it as a Job: remove", SCHEDULE]
    for play in (checked, collected):
        # The health check's reserved experiment is among them, and made anew below.
        assert "2 experiments, 2 runs, 1 logged models, 17.6 KiB of artifacts" in play.output
        for what in (dead, model.model_id, "in a deleted", "mlops.mlflow health"):
            assert what in play.output
        assert living not in play.output
    # The rest is as it was, byte for byte, and no empty directory is left.
    left = {path: sha for path, sha in before.items() if dead not in path and path.split("/")[0] not in {gone, health}}
    assert volume(sandbox) == left
    assert client.get_run(living).data.metrics == {"auc": 0.75}
    with pytest.raises(MlflowException, match="not found"):
        client.get_run(dead)
    with pytest.raises(MlflowException, match="No Experiment with id="):
        client.get_experiment(gone)

    # The cluster does it by itself.
    client.delete_run(dead := log(client, kept, "dead again"))
    time.sleep(1)
    cron_job = "cronjob/mlflow-deployment-gc-schedule"
    sandbox.kubectl("-n", NAMESPACE, "create", "job", "fired", f"--from={cron_job}")
    sandbox.kubectl("-n", NAMESPACE, "wait", "--for=condition=complete", "--timeout=90s", "job/fired")
    (pod,) = sandbox.objects("pod", "-n", NAMESPACE, "-l", "job-name=fired")
    answer = json.loads(pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"])
    assert [item["id"] for item in answer["items"]] == [dead]
    assert volume(sandbox) == left
    again = playbook(GC, now)
    assert (again.count("changed"), again.changed_tasks) == (0, [])

    # Deleted a moment ago, it stays for the 30 days of the default. Without a schedule the CronJob goes.
    client.delete_run(young := log(client, kept, "young"))
    assert playbook(GC, VARIABLES).changed_tasks == [SCHEDULE]
    assert client.get_run(young).info.lifecycle_stage == "deleted"
    assert sandbox.objects("cronjob,configmap", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=gc-schedule") == []
    playbook("playbooks/verify.yml", VARIABLES)


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_a_healthy_instance(playbook: PlaybookRunner, deployed: Deployment, tmp_path: Path) -> None:
    files = {"mlflow_status_json": str(tmp_path / "s.json"), "mlflow_status_html": str(tmp_path / "s.html")}
    play = playbook(STATUS, files)
    assert play.changed_tasks == ["Write the report"] * 2
    assert "drift       none" in play.output
    report = read(tmp_path / "s.json")
    assert (report["healthy"], report["problems"], report["drift"], report["drift_unknown"]) == (True, [], [], [])
    assert {end["url"] for end in report["endpoints"]} == {deployed.service, deployed.ingress}
    versions = report["versions"]
    assert versions["mlflow"] == "3.17.2"
    assert all(versions.values())
    content = report["content"]
    assert content["counts"]["experiments"] == len(MlflowClient(deployed.service).search_experiments())
    assert min(content["database_bytes"], content["free_bytes"]) > 100_000

    with chromium({}) as browser:
        for mode in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": mode}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            browser.get(f"file://{tmp_path}/s.html")
            height = browser.execute_script("return document.documentElement.scrollHeight")
            size = {"width": 1100, "height": height, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            screenshot(browser, BUILD / f"screenshots/status-{mode}.png")
            assert browser.title == "MLflow mlflow: healthy"
            assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
        assert browser.get_log("browser") == []  # nothing that the page's own policy refused


def test_differences_and_a_server_that_is_down(
    sandbox: Sandbox, playbook: PlaybookRunner, instance: Deployment, tmp_path: Path
) -> None:
    files = VARIABLES | {"mlflow_status_json": str(tmp_path / "s.json"), "mlflow_status_html": str(tmp_path / "s.html")}
    patch = ["-n", NAMESPACE, "patch", "deployment", "mlflow-deployment", "--type=merge", "-p"]
    sandbox.kubectl(*patch, '{"spec": {"revisionHistoryLimit": 7}}')
    sandbox.minikube("ssh", "--", "sudo chmod 0700 /data/mlflow-day-two")
    differs = playbook(STATUS, files)
    assert "spec.revisionHistoryLimit: 7 \u2192 3" in differs.output
    report = read(tmp_path / "s.json")
    assert report["healthy"]
    assert {found["object"] for found in report["drift"]} == {"Deployment/mlflow-deployment", "/data/mlflow-day-two"}

    sandbox.kubectl("-n", NAMESPACE, "scale", "deployment", "mlflow-deployment", "--replicas=0")
    sandbox.kubectl("-n", NAMESPACE, "wait", "--for=delete", "pod", "-l", "app=mlflow", "--timeout=60s")
    down = playbook(STATUS, files, rc=2)
    assert down.changed_tasks == ["Write the report"] * 2
    assert "is not healthy: no pod of the tracking server is there" in down.output
    report = read(tmp_path / "s.json")
    assert (report["healthy"], report["content"]) == (False, None)
    assert "spec.replicas: 0 \u2192 1" in down.output
    assert "not healthy" in (tmp_path / "s.html").read_text()


def test_no_cluster(playbook: PlaybookRunner, tmp_path: Path) -> None:
    missing = {"minikube_profile": "mlops-none", "mlflow_kubeconfig": str(tmp_path / "kubeconfig")}
    play = playbook(STATUS, missing, rc=2)
    assert "is not healthy: Minikube is absent" in play.output
    assert "Traceback" not in play.output
