"""The role image pushes to a real registry (distribution v3) with authentication, which runs in the cluster."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from rig import REPOSITORY, Play, PlaybookRunner, Sandbox

NAMESPACE = "mlops-test-registry"
IMAGE = "docker.io/library/mlops-test-registry:1"
HOST = "127.0.0.1:5000"  # of the node, whose Docker speaks plain HTTP to addresses of its own
USER, PASSWORD = "team", "s3cret pass/word+"
HTPASSWD = f"{USER}:$2b$04$abcdefghijklmnopqrstuuQxBgvB19/OJsjIB5WWPhc2ulHmKnQD6\n"  # bcrypt of PASSWORD
WRONG = "Wr0ng?pass>word"
CONFIG = {
    "version": 0.1,
    "storage": {"filesystem": {"rootdirectory": "/var/lib/registry"}},
    "http": {"addr": ":5000"},
    "auth": {"htpasswd": {"realm": "test", "path": "/etc/distribution/htpasswd"}},
}
MANIFESTS = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
INDEX = "https://pypi.org/simple/"
PUSH = "push | Push the image"


@dataclass(frozen=True)
class Registry:
    """The registry, asked past all that the role uses."""

    url: str

    def get(self, path: str) -> tuple[bytes, str]:
        """The body and the digest that the registry gives for it."""
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = Request(f"{self.url}/v2/{path}", headers={"Authorization": f"Basic {login}", "Accept": MANIFESTS})
        with urlopen(request, timeout=30) as answer:
            return answer.read(), answer.headers.get("Docker-Content-Digest", "")

    def repositories(self) -> list[str]:
        return json.loads(self.get("_catalog")[0])["repositories"]


@pytest.fixture(scope="module")
def registry(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    program = sandbox.run("python3", "tests/sandbox/sandbox.py", "part", "registry", timeout=1200).split()[-1]
    context = tmp_path_factory.mktemp("registry")
    shutil.copy(program, context / "registry")
    (context / "Dockerfile").write_text(
        'FROM scratch\nCOPY registry /registry\nENTRYPOINT ["/registry", "serve", "/etc/distribution/config.yml"]\n'
    )
    container = {
        "name": "registry",
        "image": IMAGE,
        "volumeMounts": [{"name": "config", "mountPath": "/etc/distribution"}],
        "readinessProbe": {"tcpSocket": {"port": 5000}, "periodSeconds": 1},
    }
    metadata = {"name": "registry", "namespace": NAMESPACE}
    objects = [
        {"kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {"config.yml": json.dumps(CONFIG), "htpasswd": HTPASSWD},
        },
        {
            "kind": "Pod",
            "metadata": metadata,
            "spec": {
                "hostNetwork": True,
                "terminationGracePeriodSeconds": 0,
                "containers": [container],
                "volumes": [{"name": "config", "configMap": {"name": "registry"}}],
            },
        },
    ]
    listing = {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", **each} for each in objects]}
    try:
        sandbox.minikube("image", "build", "--tag", IMAGE, str(context))
        sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(listing))
        sandbox.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/registry", "--timeout=60s")
        yield Registry(f"http://{sandbox.node_address}:5000")
    finally:
        sandbox.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
        images = re.findall(rf"^(?:{re.escape(IMAGE)}|127\.0\.0\.1:.*)$", sandbox.minikube("image", "ls"), re.MULTILINE)
        sandbox.minikube("image", "rm", *images)


@dataclass(frozen=True)
class Deploy:
    """Runs the stage `image` with a registry; the variables are in a file, as a vault's would be."""

    playbook: PlaybookRunner
    folder: Path

    def __call__(self, password: str, *, check: bool = False, rc: int = 0, host: str = HOST) -> Play:
        variables: dict[str, Any] = {
            "mlflow_image_requirements": str(self.folder / "requirements.txt"),
            "mlflow_image_package_index": INDEX,
            "mlflow_image_registry": f"{host}/team",
            "mlflow_image_registry_username": USER,
            "mlflow_image_registry_password": password,
        }
        (self.folder / "variables.json").write_text(json.dumps(variables))
        options = ("--tags", "image", "-vvvv", "-e", f"@{self.folder}/variables.json")
        play = self.playbook("site.yml", None, *options, check=check, rc=rc)
        assert not [form for form in forms(password) if form in play.output], f"the password is shown in {play.log}"
        return play


def forms(password: str) -> list[str]:
    """The password as it might be shown: as it is, and in base64 (both alphabets) whatever precedes it."""
    encoders = (base64.b64encode, base64.urlsafe_b64encode)
    encoded = [encode(b"x" * shift + password.encode()).decode()[8:-4] for encode in encoders for shift in (4, 5, 6)]
    return [password, *encoded]


@pytest.fixture(scope="module")
def deploy(playbook: PlaybookRunner, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """The image has one small package in MLflow's place, as nothing here depends on what is in it."""
    folder = tmp_path_factory.mktemp("image")
    pinned = (REPOSITORY / "roles/image/files/mlflow-3.17.2.txt").read_text()
    one = re.search(r"^click==(?:.*\\\n)*.*$", pinned, re.MULTILINE)
    assert one, "MLflow no longer needs click: take another small package"
    (folder / "requirements.txt").write_text(one[0] + "\n")
    return Deploy(playbook, folder)


def left_behind() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("*.mlflow-registry"))


def test_the_image_is_pushed_once_and_verified(sandbox: Sandbox, registry: Registry, deploy: Deploy) -> None:
    own_login = Path(os.path.expanduser("~/.docker/config.json"))
    login_before = own_login.read_bytes() if own_login.exists() else None

    refused = deploy(WRONG, rc=2)
    said = " ".join(refused.output.split())
    assert "was not pushed" in said, refused.tail
    assert "401 Unauthorized" in said
    assert "Check mlflow_image_registry ('127.0.0.1:5000/team'), mlflow_image_registry_username ('team')" in said
    assert registry.repositories() == []

    planned = deploy(PASSWORD, check=True)
    assert planned.changed_tasks == ["push | Tell that the image would be pushed"], planned.tail
    assert registry.repositories() == []

    pushed = deploy(PASSWORD)
    assert pushed.changed_tasks == [PUSH], pushed.tail
    assert registry.repositories() == ["team/mlflow"]
    (tag,) = json.loads(registry.get("team/mlflow/tags/list")[0])["tags"]
    assert re.fullmatch(r"3\.17\.2-[0-9a-f]{12}", tag)
    manifest, digest = registry.get(f"team/mlflow/manifests/{tag}")
    assert digest == f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    inspected = sandbox.minikube("ssh", "--", "docker", "image", "inspect", f"{HOST}/team/mlflow:{tag}")
    (image,) = json.loads(inspected)
    document = json.loads(manifest)
    assert f"{HOST}/team/mlflow@{digest}" in image["RepoDigests"]
    assert document["config"]["digest"] == image["Id"]
    assert len(document["layers"]) == len(image["RootFS"]["Layers"])
    assert hashlib.sha256(registry.get(f"team/mlflow/blobs/{image['Id']}")[0]).hexdigest() == image["Id"][7:]

    assert deploy(PASSWORD).count("changed") == 0
    assert deploy(PASSWORD, check=True).count("changed") == 0
    assert (own_login.read_bytes() if own_login.exists() else None) == login_before
    assert left_behind() == set()


def test_the_build_leaves_nothing_of_itself_in_the_image(sandbox: Sandbox, registry: Registry, deploy: Deploy) -> None:
    deploy(PASSWORD)
    (image,) = re.findall(rf"^{HOST}/team/mlflow:.*$", sandbox.minikube("image", "ls"), re.MULTILINE)
    history = sandbox.minikube("ssh", "--", f"docker history --no-trunc {image.strip()}")
    assert "runmlflow.sh" in history
    assert not [left for left in ("pypi.org", "pip.conf", "pip-ca.pem") if left in history]
    search = r"/ -xdev \( -name pip.conf -o -name pip-ca.pem -o -name requirements.txt -o -path /opt/mlflow/bin/pip \)"
    assert not sandbox.minikube(
        "ssh", "--", f"docker run --rm --entrypoint /usr/bin/find --user 0 {image.strip()} {search}"
    )


def test_a_registry_that_cannot_be_reached(registry: Registry, deploy: Deploy) -> None:
    said = " ".join(deploy(PASSWORD, rc=2, host="127.0.0.1:9").output.split())
    assert "node's Docker cannot ask the registry 127.0.0.1:9" in said.replace("''", "'")
    assert "connection refused" in said
    assert "whether the node reaches it" in said
