"""Fixtures of the tests that need the sandbox cluster; `make sandbox` brings it up before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import BUILD, Deployment, PlaybookRunner, Sandbox, resolvable


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    cache = os.environ.get("MLOPS_MLFLOW_CACHE") or Path.home() / ".cache/mlops-mlflow"
    found = Sandbox(Path(cache).absolute())
    assert found.kubeconfig.exists(), f"no cluster at {found.kubeconfig}: run `make sandbox` first"
    return found


@pytest.fixture(scope="session")
def playbook(sandbox: Sandbox) -> PlaybookRunner:
    logs = BUILD / "test-logs"
    logs.mkdir(parents=True, exist_ok=True)
    return PlaybookRunner(sandbox, logs)


@pytest.fixture(scope="session")
def deployed(sandbox: Sandbox, playbook: PlaybookRunner) -> Iterator[Deployment]:
    """The instance that the inventory's defaults describe; its ingress host can be resolved while the tests run."""
    playbook("site.yml")
    deployment = Deployment.read(sandbox, "mlflow")
    with resolvable(deployment.host, deployment.address):
        yield deployment
