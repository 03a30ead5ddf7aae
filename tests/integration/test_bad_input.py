"""Bad input gets a clear error before anything is changed: what was tried, with what, and what to do about it.

Each case is a real `ansible-playbook site.yml` against the sandbox. Where the fault cannot be had there, a program or
server that stands before the real one makes it.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rig import Deployment, Play, PlaybookRunner, Sandbox

NAMESPACE = "mlops-test-bad-input"
NEW_PATH = "/data/mlops-test-refused"
ON_S3 = {"mlflow_artifact_store": "s3", "mlflow_s3_bucket": "artifacts", "mlflow_s3_secret": "keys"}
TAKEN_PORT = 31999
KINDS = "namespaces,persistentvolumes,persistentvolumeclaims,deployments,services,ingresses,configmaps,secrets"


def settings(sandbox: Sandbox) -> dict[str, Any]:
    """The instance's objects: by name, what changes with their settings."""
    return {
        f"{o['kind']}/{o['metadata']['name']}": (
            o["metadata"]["uid"],
            o.get("spec") or o.get("data"),
            o["metadata"]["labels"],
        )
        for o in sandbox.objects(KINDS, "--all-namespaces", "--selector", "app.kubernetes.io/instance=mlflow")
    }


@pytest.fixture(scope="module", autouse=True)
def _nothing_changes(sandbox: Sandbox) -> Iterator[None]:
    """None of the faults leaves a trace in the cluster, on the node or among its images."""
    before = settings(sandbox)
    yield
    assert settings(sandbox) == before
    assert not {Path(NEW_PATH).name, "mlops-test-link", "mlops-test-file"} & sandbox.node_directories()
    assert "refused" not in sandbox.minikube("image", "ls")


def message(play: Play) -> str:
    """What the play's errors say, on one line."""
    found = re.findall(r"^\[ERROR\]: (.*?)(?=^Origin: |^fatal: |^\s*$)", play.output, re.MULTILINE | re.DOTALL)
    return " ".join(" ".join(found).split())


def refused(play: Play, *words: str) -> None:
    """The play failed before it changed anything, with a message that has these words."""
    assert play.rc != 0, play.tail
    assert play.count("changed") == 0, play.tail
    assert not play.count("unreachable"), play.tail
    said = message(play)
    assert said, play.tail
    assert "Traceback" not in play.output, play.tail
    for part in words:
        assert part in said, f"{part!r} is not in {said!r}\n{play.tail}"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        pytest.param(
            {"minikube_driver": "warp"}, ["no driver 'warp'", "Supported drivers: docker, podman"], id="driver"
        ),
        pytest.param(
            {"minikube_profile": "-x"}, ["'-x' cannot be the name", "letters, digits and dashes"], id="profile"
        ),
        pytest.param(
            {"minikube_profile": "m2"},
            ["Profile name 'm2' ends like the name of a node", "choose another"],
            id="profile-m2",
        ),
        pytest.param(
            {"mlflow_data_path": "/"}, ["mlflow_data_path '/' must be an absolute path", "/data/mlflow"], id="path-root"
        ),
        pytest.param(
            {"mlflow_data_path": "data/mlflow"}, ["'data/mlflow' must be an absolute path"], id="path-relative"
        ),
        pytest.param({"mlflow_data_path": "/data/../etc/x"}, ["'/data/../etc/x' must", "without '..'"], id="path-dots"),
        pytest.param(
            {"mlflow_data_path": "/etc/mlflow"},
            ["'/etc/mlflow' belongs to the node's system", "choose"],
            id="path-system",
        ),
        pytest.param(
            {"mlflow_replicas": 2},
            ["mlflow_replicas is 2", "SQLite", "keep one replica, or set mlflow_backend_store_uri to a PostgreSQL"],
            id="replicas-on-sqlite",
        ),
        pytest.param(
            {"mlflow_claim_size": "20Gi"},
            ["task-pv-claim asks for 20Gi, more than its volume task-pv-volume has (10Gi)", "raise mlflow_volume_size"],
            id="claim-larger-than-volume",
        ),
        pytest.param(
            {"mlflow_claim_size": "much"}, ["'much' is not a Kubernetes quantity", "(3Gi, 500M)"], id="claim-size"
        ),
        pytest.param(
            {"mlflow_image_tag": "no tag!"},
            ["'mlflow:no tag!'", "is no image reference", "a tag (mlflow_image_tag) is up to 113 letters"],
            id="image-tag",
        ),
        pytest.param({"mlflow_port": 70000}, ["port from 1 to 65535 (mlflow_port is 70000)"], id="port"),
        pytest.param(
            {"mlflow_node_port": 80},
            ["mlflow_node_port 80 is outside 30000 to 32767", "0 lets the cluster"],
            id="node-port",
        ),
        pytest.param(
            {"mlflow_artifact_store": "nfs"},
            ["mlflow_artifact_store must be one of: volume, s3, got: nfs"],
            id="artifact-store",
        ),
        pytest.param(
            ON_S3 | {"mlflow_s3_bucket": ""}, ["needs a bucket", "mlflow_s3_bucket ''", "lower-case"], id="s3-no-bucket"
        ),
        pytest.param(
            ON_S3 | {"mlflow_s3_endpoint": "s3.example.com:9000"},
            ["mlflow_s3_endpoint 's3.example.com:9000' must be the URL of an S3 server", "empty for AWS"],
            id="s3-endpoint",
        ),
        pytest.param(
            ON_S3 | {"mlflow_s3_endpoint": "https://key:s3cret@s3.example.com"},
            ["'https://****@s3.example.com' must be", "without a path or credentials"],
            id="s3-endpoint-with-credentials",
        ),
        pytest.param(
            ON_S3 | {"mlflow_s3_prefix": "/team/"},
            ["mlflow_s3_prefix '/team/'", "none at either end"],
            id="s3-prefix",
        ),
        pytest.param(
            ON_S3 | {"mlflow_s3_access_key": "a", "mlflow_s3_secret_key": "b"},
            ["either from mlflow_s3_access_key and mlflow_s3_secret_key or", "and both are given"],
            id="s3-keys-twice",
        ),
        pytest.param(ON_S3 | {"mlflow_s3_secret": ""}, ["mlflow_s3_secret, and neither is given"], id="s3-no-keys"),
        pytest.param(
            ON_S3 | {"mlflow_s3_secret": "", "mlflow_s3_access_key": "a"},
            ["mlflow_s3_access_key and mlflow_s3_secret_key go together", "one of them is empty"],
            id="s3-half-the-keys",
        ),
        pytest.param(
            ON_S3 | {"mlflow_s3_ca_bundle": "/nonexistent/ca.pem"},
            ["mlflow_s3_ca_bundle /nonexistent/ca.pem is no file on the controller"],
            id="s3-ca",
        ),
        pytest.param(
            ON_S3,
            ["no Secret keys (mlflow_s3_secret) with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "namespace mlflow:"],
            id="s3-secret-missing",
        ),
        pytest.param(
            {"mlflow_context": "nowhere"},
            [
                "no context 'nowhere'",
                "start the cluster that makes it, or name another one",
                "There are: ",
                "mlflow-sandbox",
            ],
            id="context",
        ),
        pytest.param(
            {"mlflow_kubeconfig": "/nonexistent/kubeconfig"},
            ["no kubeconfig at /nonexistent/kubeconfig", "start the cluster first", "KUBECONFIG"],
            id="kubeconfig",
        ),
        pytest.param(
            {"minikube_kubernetes_version": "v1.29.0"},
            ["Kubernetes v1.29.0 is too old: 1.30 or newer"],
            id="kubernetes",
        ),
    ],
)
def test_a_bad_value_is_refused(playbook: PlaybookRunner, variables: dict[str, Any], words: list[str]) -> None:
    refused(playbook("site.yml", variables, rc=None), *words)


def test_numbers_given_as_text_are_numbers(deployed: Deployment, playbook: PlaybookRunner) -> None:
    """`-e name=value` makes text of everything: the same values change nothing, a wrong one is refused."""
    values = {
        "minikube_cpus": 2,
        "minikube_nodes": 1,
        "minikube_install": "false",
        "mlflow_data_min_free_mb": 1024,
        "mlflow_image_build_timeout": 1800,
        "mlflow_ingress_enabled": "true",
        "mlflow_ingress_timeout": 300,
        "mlflow_job_execution": "false",
        "mlflow_port": 5050,
        "mlflow_replicas": 1,
        "mlflow_rollout_timeout": 300,
        "mlflow_uid": 10001,
        "mlflow_verify_timeout": 60,
        "mlflow_workers": 2,
    }
    options = [part for name, value in values.items() for part in ("-e", f"{name}={value}")]
    same = playbook("site.yml", None, *options, "-e", "mlflow_node_port=0", check=True)
    assert same.count("changed") == 0, same.tail
    refused(playbook("site.yml", None, *options, "-e", "mlflow_node_port=80", rc=None), "80 is outside 30000 to 32767")


def test_a_node_port_that_another_service_has(sandbox: Sandbox, playbook: PlaybookRunner) -> None:
    port = {"port": 80, "nodePort": TAKEN_PORT}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other", "namespace": NAMESPACE}}
    sandbox.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")  # what a killed test left
    sandbox.kubectl("create", "namespace", NAMESPACE)
    try:
        sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(service | {"spec": {"type": "NodePort", "ports": [port]}}))
        play = playbook("site.yml", {"mlflow_node_port": TAKEN_PORT}, rc=None)
    finally:
        sandbox.kubectl("delete", "namespace", NAMESPACE)
    refused(play, f"mlflow_node_port {TAKEN_PORT} is taken by the Service {NAMESPACE}/other", "choose another, or 0")


def kubeconfig(tmp_path: Path, server: str) -> dict[str, str]:
    """Variables for a cluster at `server`."""
    names = {"cluster": "away", "user": "away"}
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "away", "cluster": {"server": server}}],
                "users": [{"name": "away", "user": {}}],
                "contexts": [{"name": "away", "context": names}],
            }
        )
    )
    return {"mlflow_kubeconfig": str(path), "mlflow_context": "away"}


def test_an_api_server_that_cannot_be_reached(playbook: PlaybookRunner, tmp_path: Path) -> None:
    play = playbook("site.yml", kubeconfig(tmp_path, "https://127.0.0.1:9"), rc=None)
    refused(play, "API server https://127.0.0.1:9 of context 'away' cannot be reached", "refused", "Start the cluster")


def test_a_cluster_of_an_old_kubernetes(playbook: PlaybookRunner, tmp_path: Path) -> None:
    class OldServer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"major": "1", "minor": "29", "gitVersion": "v1.29.14"}')

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), OldServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        play = playbook("site.yml", kubeconfig(tmp_path, f"http://127.0.0.1:{server.server_port}"), rc=None)
        server.shutdown()
    refused(play, "Kubernetes v1.29.14 is too old: 1.30 or newer is needed", "Upgrade the cluster")


def test_a_minikube_that_is_too_old(playbook: PlaybookRunner, tmp_path: Path) -> None:
    older = tmp_path / "minikube"
    answer = '{"commit":"4d2a58ca","minikubeVersion":"v1.33.1"}'
    older.write_text(f"""#!/bin/sh
case " $* " in *" version "*) echo '{answer}' ;; *) exec minikube "$@" ;; esac
""")
    older.chmod(0o755)
    play = playbook("site.yml", {"minikube_binary": str(older)}, rc=None)
    refused(play, "Minikube v1.33.1 is too old: v1.34.0 or newer is needed", "Install Minikube")


def test_a_minikube_that_is_missing(playbook: PlaybookRunner) -> None:
    play = playbook("site.yml", {"minikube_binary": "/nonexistent/minikube"}, rc=None)
    refused(play, "'/nonexistent/minikube' was not found", "Install Minikube")


def test_a_package_index_that_cannot_be_reached(sandbox: Sandbox, playbook: PlaybookRunner) -> None:
    variables = {
        "mlflow_image_package_index": "http://somebody:s3cret@127.0.0.1:9/simple",
        "mlflow_image_tag": "refused",
        "mlflow_data_path": NEW_PATH,
    }
    play = playbook("site.yml", variables, "-vvv", rc=None)
    refused(
        play,
        "does not reach the package index",
        "and that the node reaches it",
        "http://somebody:****@127.0.0.1:9/simple",
    )
    assert "s3cret" not in play.output, "the index's password is shown"


def test_a_base_image_that_cannot_be_had(sandbox: Sandbox, playbook: PlaybookRunner) -> None:
    variables = {
        "mlflow_image_base": "127.0.0.1:9/python:3.13",
        "mlflow_image_tag": "refused",
        "mlflow_data_path": NEW_PATH,
    }
    play = playbook("site.yml", variables, rc=None)
    refused(
        play, "base image 127.0.0.1:9/python:3.13 is neither in the node", "Check the name, and that the node reaches"
    )


@pytest.fixture
def node(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox, whose node has paths and a user that are made for the tests."""
    make = (
        "sudo mkdir /data/mlops-test-full; sudo mount -t tmpfs -o size=1m none /data/mlops-test-full;"
        " sudo ln -s /etc /data/mlops-test-link; sudo touch /data/mlops-test-file;"
        " sudo useradd --create-home --shell /bin/sh mlops-test; sudo usermod --password x mlops-test;"
        " sudo cp -r /home/docker/.ssh /home/mlops-test/; sudo chown -R mlops-test: /home/mlops-test"
    )
    undo = (
        "sudo umount /data/mlops-test-full; sudo rmdir /data/mlops-test-full;"
        " sudo rm -f /data/mlops-test-link /data/mlops-test-file; sudo userdel --remove mlops-test"
    )
    sandbox.minikube("ssh", "--", undo, check=False)  # what a killed test left
    sandbox.minikube("ssh", "--", make)
    try:
        yield sandbox
    finally:
        sandbox.minikube("ssh", "--", undo, check=False)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        pytest.param(
            {"mlflow_data_path": "/data/mlops-test-link/mlflow"},
            ["/data/mlops-test-link on the node is a symbolic link to /etc", "give the path of the directory itself"],
            id="path-through-a-symlink",
        ),
        pytest.param(
            {"mlflow_data_path": "/data/mlops-test-file"},
            ["/data/mlops-test-file on the node is a file, not a directory", "choose another path"],
            id="path-of-a-file",
        ),
        pytest.param(
            {"mlflow_data_path": "/data/mlops-test-full/mlflow"},
            ["No space on the node", "for /data/mlops-test-full/mlflow, but 1024 MB are asked for", "make room"],
            id="no-space",
        ),
        pytest.param(
            {"ansible_user": "mlops-test", "mlflow_data_path": NEW_PATH},
            ["may not use sudo without a password", "give it passwordless sudo", "or connect as root"],
            id="no-sudo",
        ),
    ],
)
def test_a_node_that_cannot_have_the_directory(
    node: Sandbox, playbook: PlaybookRunner, variables: dict[str, Any], words: list[str]
) -> None:
    refused(playbook("site.yml", variables, rc=None), *words)
