"""Python package, command line and web UI, each through the Ingress and through the NodePort."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from e2e.browser import chromium, screenshot
from e2e.pages import PRINTED, first_run
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from rig import BUILD, Deployment, Sandbox
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

EXPERIMENT = "Anomaly Detection"
PARAMETERS = {"contamination": "0.05", "trees": "100"}
TAGS = {"dataset": "gearbox", "stage": "e2e"}
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Logged:
    """A run that the Python package logged through one of the addresses."""

    way: str
    url: str
    name: str
    run_id: str
    experiment_id: str


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module", params=["ingress", "service"])
def logged(
    request: pytest.FixtureRequest, deployed: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Logged]:
    way = str(request.param)
    url = str(getattr(deployed, way))
    report = tmp_path_factory.mktemp("artifact") / "report.txt"
    report.write_text("two anomalies\n")
    mlflow.set_tracking_uri(url)
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=f"by-{way}-{os.getpid()}", tags=TAGS) as run:
        mlflow.log_params(PARAMETERS)
        for step, value in enumerate((0.5, 0.75, 0.875)):
            mlflow.log_metric("auc", value, step=step)
        mlflow.log_artifact(str(report), "reports")
    yield Logged(way, url, run.info.run_name, run.info.run_id, run.info.experiment_id)
    client = MlflowClient(url)
    client.delete_run(run.info.run_id)


def test_python_package(logged: Logged, tmp_path: Path) -> None:
    client = MlflowClient(logged.url)
    (run,) = client.search_runs([logged.experiment_id], f"attributes.run_name = '{logged.name}'")
    assert (run.info.run_id, run.info.status) == (logged.run_id, "FINISHED")
    assert run.data.params == PARAMETERS
    assert run.data.tags.items() >= TAGS.items()
    assert [m.value for m in client.get_metric_history(logged.run_id, "auc")] == [0.5, 0.75, 0.875]
    # The server hands the artifacts out; a path of the volume here would send the client to its own disk.
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    assert not Path("/mlflow").exists()
    local = client.download_artifacts(logged.run_id, "reports/report.txt", str(tmp_path))
    assert Path(local).read_text() == "two anomalies\n"


def test_command_line(logged: Logged, sandbox: Sandbox) -> None:
    tracking = f"MLFLOW_TRACKING_URI={logged.url}"
    listing = sandbox.run("env", tracking, "mlflow", "runs", "list", "--experiment-id", logged.experiment_id)
    assert logged.name in listing
    assert logged.run_id in listing


def test_web_interface(logged: Logged, deployed: Deployment) -> None:
    with chromium({deployed.host: deployed.address}) as browser:
        wait = WebDriverWait(browser, 90)
        browser.get(f"{logged.url}/#/experiments")
        wait.until(expected_conditions.element_to_be_clickable((By.LINK_TEXT, EXPERIMENT)))
        browser.get(f"{logged.url}/#/experiments/{logged.experiment_id}/runs")
        found = wait.until(expected_conditions.element_to_be_clickable((By.LINK_TEXT, logged.name)))
        screenshot(browser, BUILD / f"screenshots/runs-{logged.way}.png")
        found.click()
        wait.until(expected_conditions.text_to_be_present_in_element((By.TAG_NAME, "body"), "contamination"))
        assert logged.run_id in browser.current_url
        screenshot(browser, BUILD / f"screenshots/run-{logged.way}.png")


def test_large_artifact_through_the_ingress(deployed: Deployment, tmp_path: Path) -> None:
    large, back = tmp_path / "model.bin", tmp_path / "back"
    large.write_bytes(os.urandom(50 * MEBIBYTE))
    back.mkdir()
    client = MlflowClient(deployed.ingress)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    run = client.create_run(experiment.experiment_id, run_name="large-artifact")
    try:
        client.log_artifact(run.info.run_id, str(large))
        received = Path(client.download_artifacts(run.info.run_id, large.name, str(back)))
        assert received.stat().st_size == 50 * MEBIBYTE
        assert sha256(received) == sha256(large)
    finally:
        get_artifact_repository(run.info.artifact_uri, tracking_uri=deployed.ingress).delete_artifacts()
        client.delete_run(run.info.run_id)


def test_a_foreign_host_header_is_refused(deployed: Deployment) -> None:
    request = urllib.request.Request(f"{deployed.service}/", headers={"Host": "attacker.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 403
    assert b"Invalid Host header" in refused.value.read()


def test_the_first_run_of_the_readme(deployed: Deployment, sandbox: Sandbox, tmp_path: Path) -> None:
    """What the README shows is run as it stands there, with the address of this deploy."""
    python, _ = (block.replace(PRINTED, deployed.service) for block in first_run("python"))
    shell, _ = (block.replace(PRINTED, deployed.service) for block in first_run("console"))
    (tmp_path / "first.py").write_text(python)
    (tmp_path / "first.sh").write_text("set -e\n" + "".join(line[2:] + "\n" for line in shell.splitlines()))
    sandbox.run("python", str(tmp_path / "first.py"))
    assert EXPERIMENT in sandbox.run("bash", str(tmp_path / "first.sh"))
    client = MlflowClient(deployed.service)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    for name in ("from Python", "from the command line"):
        run = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")[0]
        assert run.info.status == "FINISHED"
        client.delete_run(run.info.run_id)
        if name == "from Python":
            assert run.data.metrics == {"accuracy": 0.97}
            local = client.download_artifacts(run.info.run_id, "report.txt", str(tmp_path))
            assert Path(local).read_text() == "two anomalies"
