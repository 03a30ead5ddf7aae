"""Artifacts on a real S3 server (versitygw, with TLS), which only the tracking server reaches and has the keys of."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import mlflow
import numpy as np
import pytest
import requests
from botocore.config import Config
from e2e.browser import chromium, screenshot
from mlflow import MlflowClient
from mlflow.entities import FileInfo, LoggedModel, Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from rig import BUILD, Deployment, Play, PlaybookRunner, Sandbox, resolvable
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait
from sklearn.linear_model import LogisticRegression

NAMESPACE = "mlops-test-s3"
IMAGE = "docker.io/library/mlops-test-versitygw:1"
PORT = 7070
SERVICE = f"s3.{NAMESPACE}.svc"  # a name that pods know and the controller does not
BUCKET, SECOND_BUCKET = "artifacts", "more-artifacts"
ACCESS_KEY, SECRET_KEY, WRONG_KEY = "mlops-test", "t0p+s3cret/of=the-test", "Wr0ng+s3cret/of=the-test"
USERS_SECRET = "keys-of-s3"

INSTANCE = {
    "mlflow_instance": "on-s3",
    "mlflow_namespace": "mlflow-on-s3",
    "mlflow_volume_name": "on-s3-volume",
    "mlflow_data_path": "/data/mlflow-on-s3",
    "mlflow_ingress_host": "on-s3.local",
    "mlflow_workers": 1,
    "mlflow_artifact_store": "s3",
    "mlflow_s3_endpoint": f"https://{SERVICE}:{PORT}",
    "mlflow_s3_bucket": BUCKET,
    "mlflow_verify_timeout": 30,
}
KEYS = {"mlflow_s3_access_key": ACCESS_KEY, "mlflow_s3_secret_key": SECRET_KEY}
NAMESPACED = ("-n", INSTANCE["mlflow_namespace"])
SERVER = ("--tags", "workload,verify")
EXPERIMENT = "On S3"
MEBIBYTE = 1 << 20
REPORT = "two anomalies, and both of them in the report\n"

Content = tuple[int, str]  # size and SHA-256


def content(body: bytes) -> Content:
    return len(body), hashlib.sha256(body).hexdigest()


@dataclass(frozen=True)
class Gateway:
    """The S3 server, asked past the tracking server."""

    client: Any
    ca: Path

    def objects(self, bucket: str = BUCKET) -> dict[str, Content]:
        """By key, what is in a bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {key: content(self.client.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys}


def certificates(sandbox: Sandbox, folder: Path) -> None:
    """A CA (ca.crt) and a certificate of it for the S3 server (tls.crt, tls.key)."""
    (folder / "openssl.cnf").write_text("[req]\ndistinguished_name = subject\n[subject]\n")
    path = {name: str(folder / name) for name in ("openssl.cnf", "ca.crt", "ca.key", "tls.crt", "tls.key")}
    request = ("openssl", "req", "-x509", "-config", path["openssl.cnf"], "-newkey", "rsa:2048", "-nodes", "-days", "2")

    def extensions(*texts: str) -> list[str]:
        always = ("subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid:always")
        return [part for text in (*always, *texts) for part in ("-addext", text)]

    own = extensions("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
    sandbox.run(*request, "-subj", "/CN=CA of the test", *own, "-out", path["ca.crt"], "-keyout", path["ca.key"])
    names = f"subjectAltName=DNS:{SERVICE},IP:{sandbox.node_address}"
    signed = [*extensions("basicConstraints=critical,CA:FALSE", names), "-CA", path["ca.crt"], "-CAkey", path["ca.key"]]
    sandbox.run(*request, "-subj", "/CN=s3", *signed, "-out", path["tls.crt"], "-keyout", path["tls.key"])


@pytest.fixture(scope="module")
def gateway(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    program = sandbox.run("python3", "tests/sandbox/sandbox.py", "part", "versitygw", timeout=1200).split()[-1]
    folder = tmp_path_factory.mktemp("versitygw")
    context = folder / "image"
    context.mkdir()
    shutil.copy(program, context / "versitygw")
    (context / "Dockerfile").write_text('FROM scratch\nCOPY versitygw /versitygw\nENTRYPOINT ["/versitygw"]\n')
    certificates(sandbox, folder)

    metadata = {"name": "s3", "namespace": NAMESPACE}
    files = {name: (folder / name).read_text() for name in ("tls.crt", "tls.key")}
    container = {
        "name": "versitygw",
        "image": IMAGE,
        "args": [*("--port", f":{PORT}"), *("--cert", "/tls/tls.crt", "--key", "/tls/tls.key"), "posix", "/data"],
        "envFrom": [{"secretRef": {"name": "root"}}],
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}, {"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    specification = {
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "tls", "secret": {"secretName": "tls"}}, {"name": "data", "emptyDir": {}}],
    }
    objects = [
        {"kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "kind": "Secret",
            "metadata": {"name": "root", "namespace": NAMESPACE},
            "stringData": {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY},
        },
        {"kind": "Secret", "metadata": {"name": "tls", "namespace": NAMESPACE}, "stringData": files},
        {"kind": "Pod", "metadata": metadata | {"labels": {"app": "s3"}}, "spec": specification},
        {
            "kind": "Service",
            "metadata": metadata,
            "spec": {"type": "NodePort", "selector": {"app": "s3"}, "ports": [{"port": PORT}]},
        },
    ]
    listing = {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", **each} for each in objects]}
    sandbox.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")  # what a killed test left
    try:
        sandbox.minikube("image", "build", "--tag", IMAGE, str(context))
        sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(listing))
        sandbox.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/s3", "--timeout=60s")
        (service,) = sandbox.objects("service", "-n", NAMESPACE)
        client = boto3.client(
            "s3",
            endpoint_url=f"https://{sandbox.node_address}:{service['spec']['ports'][0]['nodePort']}",
            verify=str(folder / "ca.crt"),
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(retries={"mode": "standard", "total_max_attempts": 8}),  # until the node port is there
        )
        for bucket in (BUCKET, SECOND_BUCKET):
            client.create_bucket(Bucket=bucket)
        yield Gateway(client, folder / "ca.crt")
    finally:
        sandbox.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
        sandbox.minikube("image", "rm", IMAGE)


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
    assert gateway.objects() == given
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
    before, others = temporary_files(sandbox), gateway.objects()
    large, back = tmp_path / "large.bin", tmp_path / "back"
    large.write_bytes(os.urandom(50 * MEBIBYTE))
    back.mkdir()
    client = MlflowClient(on_s3.ingress)
    run = client.create_run(training.run.info.experiment_id)
    client.log_artifact(run.info.run_id, str(large), "weights")
    key = f"{run.info.experiment_id}/{run.info.run_id}/artifacts/weights/large.bin"
    assert gateway.objects() == others | {key: content(large.read_bytes())}
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
    assert gateway.objects() == others


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
