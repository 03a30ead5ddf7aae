"""The role minikube_cluster installs the `minikube` command from a mirror, only with the checksum that it is told."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rig import PlaybookRunner, Sandbox

FETCH = "install | Fetch the release binary"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def install(sandbox: Sandbox, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Variables that install the sandbox's own minikube from a mirror on this machine."""
    (tmp_path / "bin").mkdir()
    binary = (sandbox.cache / "bin/minikube").resolve()
    with binary.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(binary.parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "minikube_install": True,
            "minikube_install_url": f"http://127.0.0.1:{server.server_port}/{binary.name}",
            "minikube_install_checksum": f"sha256:{digest}",
            "minikube_install_path": str(tmp_path / "bin/minikube"),
        }
        server.shutdown()


def test_the_command_is_installed_once_and_used(
    sandbox: Sandbox, playbook: PlaybookRunner, install: dict[str, Any]
) -> None:
    path = Path(install["minikube_install_path"])
    planned = playbook("playbooks/cluster.yml", install, check=True)
    assert planned.changed_tasks[0] == FETCH, planned.tail
    assert not path.exists()

    first = playbook("playbooks/cluster.yml", install, "-vvv")
    assert first.changed_tasks == [FETCH], first.tail
    assert os.access(path, os.X_OK)
    assert path.stat().st_mode & 0o777 == 0o755
    assert "minikubeVersion" in subprocess.check_output([path, "version", "-o", "json"], text=True)
    assert f"binary: {path}" in first.output, "the cluster is not looked after with the installed command"

    assert playbook("playbooks/cluster.yml", install).count("changed") == 0


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        pytest.param(
            {"minikube_install_checksum": f"sha256:{'0' * 64}"},
            ["did not match", "Check minikube_install_url"],
            id="wrong",
        ),
        pytest.param(
            {"minikube_install_checksum": ""}, ["needs minikube_install_checksum", "sha256:DIGEST"], id="none"
        ),
        pytest.param(
            {"minikube_install_url": "http://127.0.0.1:9/minikube"},
            ["http://127.0.0.1:9/minikube could not be fetched", "refused"],
            id="no-mirror",
        ),
    ],
)
def test_nothing_is_left_of_a_download_that_nothing_vouches_for(
    playbook: PlaybookRunner, install: dict[str, Any], variables: dict[str, str], words: list[str]
) -> None:
    play = playbook("playbooks/cluster.yml", install | variables, rc=2)
    assert play.count("changed") == 0, play.tail
    said = " ".join(play.output.split())
    assert not [word for word in words if word not in said], play.tail
    assert not list(Path(install["minikube_install_path"]).parent.glob("*"))
