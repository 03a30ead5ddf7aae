"""Artifacts on a real S3 server (versitygw, with TLS), which only the tracking server reaches and has the keys of."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
from e2e.browser import chromium, screenshot
from e2e.s3 import ACCESS_KEY, PORT, SECRET_KEY, Content, Gateway, content, server_name, serving
from mlflow import MlflowClient
from mlflow.entities import FileInfo, LoggedModel, Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from rig import BUILD, Deployment, Play, PlaybookRunner, Sandbox, resolvable
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait
from sklearn.linear_model import LogisticRegression

NAMESPACE = "mlops-test-s3"
BUCKET, SECOND_BUCKET = "artifacts", "more-artifacts"
WRONG_KEY = "Wr0ng+s3cret/of=the-test"
USERS_SECRET = "keys-of-s3"

INSTANCE = {
    "mlflow_instance": "on-s3",
    "mlflow_namespace": "mlflow-on-s3",
    "mlflow_volume_name": "on-s3-volume",
    "mlflow_data_path": "/data/mlflow-on-s3",
    "mlflow_ingress_host": "on-s3.local",
    "mlflow_workers": 1,
    "mlflow_artifact_store": "s3",
    "mlflow_s3_endpoint": f"https://{server_name(NAMESPACE)}:{PORT}",
    "mlflow_s3_bucket": BUCKET,
    "mlflow_verify_timeout": 30,
}
KEYS = {"mlflow_s3_access_key": ACCESS_KEY, "mlflow_s3_secret_key": SECRET_KEY}
NAMESPACED = ("-n", INSTANCE["mlflow_namespace"])
SERVER = ("--tags", "workload,verify")
EXPERIMENT = "On S3"
MEBIBYTE = 1 << 20
REPORT = "two anomalies, and both of them in the report\n"


@pytest.fixture(scope="module")
def gateway(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(sandbox, tmp_path_factory.mktemp("versitygw"), NAMESPACE, [BUCKET, SECOND_BUCKET]) as found:
        yield found


Deploy = Callable[..., Play]


@pytest.fixture(scope="module")
def deploy(playbook: PlaybookRunner, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploy]:
    """Runs site.yml for the instance with all that can be shown; the variables are in a file, as a vault's would be."""
    path = tmp_path_factory.mktemp("variables") / "variables.json"

    def run(variables: Mapping[str, Any], *options: str, rc: int = 0, check: bool = False) -> Play:
        everything = INSTANCE | {"mlflow_s3_ca_bundle": str(gateway.ca)} | variables
        path.write_text(json.dumps(everything))
        play = playbook("site.yml", None, "-vvv", "--diff", "-e", f"@{path}", *options, rc=rc, check=check)
        shown = [form for key in (SECRET_KEY, WRONG_KEY) for form in forms(key) if form in play.output]
        assert not shown, f"a secret key is shown in {play.log}"
        return play

    removal = INSTANCE | {"mlflow_teardown_data": True}
    playbook("playbooks/teardown.yml", removal)
    try:
        yield run
    finally:
        playbook("playbooks/teardown.yml", removal)


def forms(key: str) -> list[str]:
    """A secret key as it might be shown."""
    return [key, base64.b64encode(key.encode()).decode().rstrip("=")]


@pytest.fixture(scope="module")
def on_s3(sandbox: Sandbox, deploy: Deploy) -> Iterator[Deployment]:
    deploy(KEYS)
    deployment = Deployment.read(sandbox, str(INSTANCE["mlflow_namespace"]))
    with resolvable(deployment.host, deployment.address):
        yield deployment


@dataclass(frozen=True)
class Training:
    """A run on the controller, with a tree of artifacts and a model."""

    run: Run
    model: LoggedModel


@pytest.fixture(scope="module")
def training(on_s3: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Training:
    tree = tmp_path_factory.mktemp("tree")
    for name, body in {
        "report.txt": REPORT.encode(),
        "empty.bin": b"",
        "plots/by day/2026-11-24 ü.csv": b"hour,anomalies\n7,2\n",
        "plots/raw/deep/er/signal.bin": os.urandom(9 * MEBIBYTE),  # more than one part of an upload
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(body)
    mlflow.set_tracking_uri(on_s3.ingress)
    mlflow.set_experiment(EXPERIMENT)
    features = np.arange(40.0).reshape(-1, 1)
    with mlflow.start_run(run_name="trained on the controller") as run:
        mlflow.log_artifacts(str(tree))
        mlflow.log_text("one more\n", "plots/note.txt")
        estimator = LogisticRegression().fit(features, features[:, 0] > 20)
        logged = mlflow.sklearn.log_model(estimator, name="classifier", pip_requirements=["scikit-learn"])
    return Training(run, mlflow.get_logged_model(logged.model_id))


def files(listing: Callable[[str | None], list[FileInfo]], path: str | None = None) -> dict[str, int]:
    """By path, the size of every file below one."""
    found: dict[str, int] = {}
    for item in listing(path):
        found |= files(listing, item.path) if item.is_dir else {item.path: item.file_size or 0}
    return found


def test_every_object_is_what_the_api_gives(
    on_s3: Deployment, gateway: Gateway, training: Training, tmp_path: Path
) -> None:
    client = MlflowClient(on_s3.service)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    given: dict[str, Content] = {}
    for uri, tracked in (
        (training.run.info.artifact_uri, f"{experiment.experiment_id}/{training.run.info.run_id}/artifacts"),
        (training.model.artifact_location, f"{experiment.experiment_id}/models/{training.model.model_id}/artifacts"),
    ):
        assert uri == f"mlflow-artifacts:/{tracked}"
        repository = get_artifact_repository(uri, tracking_uri=on_s3.service)
        sizes = files(repository.list_artifacts)
        folder = tmp_path / tracked
        folder.mkdir(parents=True)
        repository.download_artifacts("", str(folder))
        bodies = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert {name: len(body) for name, body in bodies.items()} == sizes
        given |= {f"{tracked}/{name}": content(body) for name, body in bodies.items()}
    assert gateway.objects(BUCKET) == given
    assert len(given) >= 8
    assert content(REPORT.encode()) in given.values()


def test_the_model_predicts(on_s3: Deployment, training: Training) -> None:
    mlflow.set_tracking_uri(on_s3.service)
    loaded = mlflow.sklearn.load_model(f"models:/{training.model.model_id}")
    assert loaded.predict([[3.0], [33.0]]).tolist() == [False, True]


def test_clients_are_not_sent_to_s3(on_s3: Deployment, training: Training) -> None:
    information = requests.get(f"{on_s3.service}/api/3.0/mlflow/server-info", timeout=30).json()
    assert (information["multipart_uploads_enabled"], information["multipart_downloads_enabled"]) == (False, False)
    path = training.run.info.artifact_uri.removeprefix("mlflow-artifacts:/")
    answer = requests.get(f"{on_s3.service}/api/2.0/mlflow-artifacts/presigned/{path}/report.txt", timeout=30)
    assert answer.status_code == 501


def test_the_volume_has_no_artifacts(sandbox: Sandbox, on_s3: Deployment, training: Training) -> None:
    listing = sandbox.minikube("ssh", "--", "sudo", "find", INSTANCE["mlflow_data_path"], "-type", "f")
    found = {str(Path(line.strip()).relative_to(INSTANCE["mlflow_data_path"])) for line in listing.splitlines()}
    assert found - {"index.html", "mlflowdb/mlflow.db-wal", "mlflowdb/mlflow.db-shm"} == {"mlflowdb/mlflow.db"}


def test_the_keys_are_in_the_secret_alone(sandbox: Sandbox, on_s3: Deployment) -> None:
    (deployment,) = sandbox.objects("deployment", *NAMESPACED)
    assert not [form for form in forms(SECRET_KEY) if form in json.dumps(deployment)]
    secrets = {item["metadata"]["name"]: item["data"] for item in sandbox.objects("secret", *NAMESPACED)}
    kept = secrets["mlflow-deployment-s3"]
    assert base64.b64decode(kept["AWS_SECRET_ACCESS_KEY"]).decode() == SECRET_KEY


def test_artifacts_are_in_the_web_page(on_s3: Deployment, training: Training) -> None:
    info = training.run.info
    with chromium({on_s3.host: on_s3.address}) as browser:
        wait = WebDriverWait(browser, 90)
        browser.get(f"{on_s3.ingress}/#/experiments/{info.experiment_id}/runs/{info.run_id}/artifacts/report.txt")
        body = (By.TAG_NAME, "body")
        wait.until(expected_conditions.text_to_be_present_in_element(body, REPORT.strip()))
        for name in ("plots", "empty.bin"):
            assert name in browser.find_element(*body).text
        screenshot(browser, BUILD / "screenshots/artifacts-s3.png")


def temporary_files(sandbox: Sandbox) -> set[str]:
    return set(sandbox.kubectl("exec", *NAMESPACED, "deployment/mlflow-deployment", "--", "ls", "-A", "/tmp").split())


def test_a_large_artifact_leaves_nothing_behind(
    sandbox: Sandbox, on_s3: Deployment, gateway: Gateway, training: Training, tmp_path: Path
) -> None:
    before, others = temporary_files(sandbox), gateway.objects(BUCKET)
    large, back = tmp_path / "large.bin", tmp_path / "back"
    large.write_bytes(os.urandom(50 * MEBIBYTE))
    back.mkdir()
    client = MlflowClient(on_s3.ingress)
    run = client.create_run(training.run.info.experiment_id)
    client.log_artifact(run.info.run_id, str(large), "weights")
    key = f"{run.info.experiment_id}/{run.info.run_id}/artifacts/weights/large.bin"
    assert gateway.objects(BUCKET) == others | {key: content(large.read_bytes())}
    received = Path(client.download_artifacts(run.info.run_id, "weights/large.bin", str(back)))
    assert content(received.read_bytes()) == content(large.read_bytes())
    deadline = time.monotonic() + 10
    while (left := temporary_files(sandbox) - before) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == set()

    repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=on_s3.ingress)
    assert [item.path for item in repository.list_artifacts()] == ["weights"]
    repository.delete_artifacts("weights")
    assert repository.list_artifacts() == []
    assert gateway.objects(BUCKET) == others


def test_repeating_changes_nothing(deploy: Deploy, on_s3: Deployment) -> None:
    again = deploy(KEYS)
    assert (again.count("changed"), again.changed_tasks) == (0, [])
    checked = deploy(KEYS, check=True)
    assert (checked.count("changed"), checked.changed_tasks) == (0, [])


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        pytest.param({"mlflow_s3_secret_key": WRONG_KEY}, ["signature"], id="wrong-key"),
        pytest.param({"mlflow_s3_bucket": "no-such-bucket"}, ["bucket does not exist"], id="no-bucket"),
        pytest.param({"mlflow_s3_ca_bundle": ""}, ["SSL validation failed", "certificate verify failed"], id="ca"),
        pytest.param(
            {"mlflow_s3_endpoint": "https://127.0.0.1:9"}, ["Could not connect to the endpoint URL"], id="endpoint"
        ),
    ],
)
def test_a_wrong_setting_is_told_with_the_words_of_s3(
    deploy: Deploy, on_s3: Deployment, variables: dict[str, str], words: list[str]
) -> None:
    said = " ".join(deploy(KEYS | variables, *SERVER, rc=2).output.split())
    assert "MLflow is not healthy (artifact)" in said
    for part in words:
        assert part in said


def digest(sandbox: Sandbox) -> str:
    (deployment,) = sandbox.objects("deployment", *NAMESPACED)
    return str(deployment["spec"]["template"]["metadata"]["annotations"]["mlops.mlflow/s3-digest"])


def test_keys_in_a_secret_of_the_users_own(
    sandbox: Sandbox, deploy: Deploy, on_s3: Deployment, gateway: Gateway
) -> None:
    variables = {"mlflow_s3_secret": USERS_SECRET, "mlflow_s3_bucket": SECOND_BUCKET, "mlflow_s3_prefix": "team/mlflow"}

    def make(key: str) -> None:
        body = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": key}
        metadata = {"name": USERS_SECRET, "namespace": INSTANCE["mlflow_namespace"]}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": body}
        sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(secret))

    missing = deploy(variables, *SERVER, rc=2)
    assert missing.count("changed") == 0
    assert f"no Secret {USERS_SECRET} (mlflow_s3_secret) with AWS_ACCESS_KEY_ID and" in " ".join(missing.output.split())

    make(SECRET_KEY)
    deploy(variables, *SERVER)
    names = {item["metadata"]["name"] for item in sandbox.objects("secret", *NAMESPACED)}
    assert USERS_SECRET in names
    assert "mlflow-deployment-s3" not in names
    client = MlflowClient(on_s3.service)
    run = client.create_run(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    client.log_text(run.info.run_id, REPORT, "report.txt")
    key = f"team/mlflow/{run.info.experiment_id}/{run.info.run_id}/artifacts/report.txt"
    assert gateway.objects(SECOND_BUCKET) == {key: content(REPORT.encode())}
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["report.txt"]
    again = deploy(variables, *SERVER)
    assert (again.count("changed"), again.changed_tasks) == (0, [])

    before = digest(sandbox)
    make(WRONG_KEY)
    deploy(variables, *SERVER, rc=2)
    assert digest(sandbox) != before
    url = f"{on_s3.service}/api/2.0/mlflow-artifacts/artifacts/refused.txt"
    answer = requests.put(url, data=b"refused", timeout=30)
    assert answer.status_code == 401
    assert "Failed to upload" in answer.json()["message"]
    assert "signature" in answer.json()["message"]
