"""The address of the node's Docker, against a program that answers as `minikube docker-env` does."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import Minikube


def minikube(tmp_path: Path, script: str) -> Minikube:
    program = tmp_path / "minikube"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\n{script}\n')
    program.chmod(0o755)
    return Minikube(profile="mlflow", binary=str(program), home=str(tmp_path))


def test_only_what_a_docker_client_reads_is_returned(tmp_path: Path) -> None:
    answer = '{"DOCKER_HOST":"tcp://192.168.49.2:2376","DOCKER_TLS_VERIFY":"1","MINIKUBE_ACTIVE_DOCKERD":"mlflow","SSH_AUTH_SOCK":""}'
    found = minikube(tmp_path, f"echo '{answer}'").docker_environment()
    assert found == {"DOCKER_HOST": "tcp://192.168.49.2:2376", "DOCKER_TLS_VERIFY": "1"}
    assert (tmp_path / "arguments").read_text() == "-p mlflow docker-env --shell none --output json\n"


def test_another_container_runtime_is_an_error_with_minikubes_words(tmp_path: Path) -> None:
    with pytest.raises(MlopsError, match=r"Docker engine of profile 'mlflow' failed(?s:.*)works with docker only"):
        minikube(tmp_path, "echo 'works with docker only' >&2; exit 14").docker_environment()
