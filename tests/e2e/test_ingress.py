"""One Ingress on two kinds of controller, plain and with TLS; the sandbox's Traefik also acts as ingress-nginx."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from rig import Deployment, PlaybookRunner, Sandbox

SECRET = "mlflow-tls-test"
DEFAULT_CLASS = "traefik"
ONLY_INGRESS = ("--tags", "ingress,verify")


@dataclass(frozen=True)
class Published:
    """The tracking server under an Ingress of one class; `ca` is empty for plain HTTP."""

    deployment: Deployment
    ingress_class: str
    ca: str


@pytest.fixture(scope="module")
def certificate(sandbox: Sandbox, deployed: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A self-signed certificate of the ingress host, which the instance's namespace has as a Secret."""
    directory = tmp_path_factory.mktemp("tls")
    key, certificate = str(directory / "tls.key"), str(directory / "tls.crt")
    subject = ("-subj", f"/CN={deployed.host}", "-addext", f"subjectAltName=DNS:{deployed.host}")
    sandbox.run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, "-keyout", key,
        "-out", certificate,
    )  # fmt: skip
    namespaced = ("-n", deployed.namespace)
    sandbox.kubectl("delete", "secret", SECRET, "--ignore-not-found", *namespaced)
    sandbox.kubectl("create", "secret", "tls", SECRET, "--cert", certificate, "--key", key, *namespaced)
    yield directory / "tls.crt"
    sandbox.kubectl("delete", "secret", SECRET, *namespaced)


@pytest.fixture(scope="module")
def restored(playbook: PlaybookRunner, deployed: Deployment, certificate: Path) -> Iterator[None]:
    """Give the instance its own Ingress back for the tests that follow."""
    yield
    playbook("site.yml", {}, *ONLY_INGRESS)


@pytest.fixture(
    scope="module",
    params=[(DEFAULT_CLASS, False), ("nginx", False), ("nginx", True), (DEFAULT_CLASS, True)],
    ids=["traefik-plain", "nginx-plain", "nginx-tls", "traefik-tls"],
)
def published(
    request: pytest.FixtureRequest,
    sandbox: Sandbox,
    playbook: PlaybookRunner,
    deployed: Deployment,
    certificate: Path,
    restored: None,
) -> Published:
    ingress_class, tls = request.param
    variables: dict[str, Any] = {"mlflow_ingress_class": ingress_class}
    if tls:
        variables |= {"mlflow_ingress_tls_secret": SECRET, "mlflow_ca_bundle": str(certificate)}
    playbook("site.yml", variables, *ONLY_INGRESS)
    now = Deployment.read(sandbox, deployed.namespace)
    assert now.ingress == f"{'https' if tls else 'http'}://{deployed.host}"
    return Published(now, ingress_class, str(certificate) if tls else "")


def test_large_bodies_pass(published: Published, sandbox: Sandbox) -> None:
    (ingress,) = sandbox.objects("ingress", "-n", published.deployment.namespace)
    assert ingress["spec"]["ingressClassName"] == published.ingress_class
    url = f"{published.deployment.ingress}/api/2.0/mlflow-artifacts/artifacts/e2e-ingress/body.bin"
    body = os.urandom(3 << 20)  # ingress-nginx refuses more than 1 MiB unless it is told otherwise
    with requests.Session() as session:
        session.trust_env = False  # requests takes REQUESTS_CA_BUNDLE before `verify`
        session.verify = published.ca or True
        assert session.put(url, data=body, timeout=60).status_code == 200
        assert session.get(url, timeout=60).content == body
        assert session.delete(url, timeout=60).status_code == 200


def test_tls_leaves_no_plain_way_in(published: Published) -> None:
    answer = requests.get(f"http://{published.deployment.host}/version", allow_redirects=False, timeout=30)
    if not published.ca:
        assert (answer.status_code, answer.text) == (200, "3.17.2")
    elif answer.is_redirect:
        assert answer.headers["Location"].startswith(f"https://{published.deployment.host}/")
    else:
        assert answer.status_code == 404


def test_other_hosts_are_not_routed(published: Published) -> None:
    answer = requests.get(
        f"http://{published.deployment.address}/version", headers={"Host": "other.example"}, timeout=30
    )
    assert answer.status_code == 404
