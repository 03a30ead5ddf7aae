"""Nodes as hosts, as `ansible-inventory` reads them: a recorded profile, and a socket that answers as Docker does."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures/minikube"
CONTAINER = json.loads((FIXTURES / "container.json").read_text())


@dataclass
class Lab:
    """A home with the recorded profile `lab`, and the inventory file beside it."""

    folder: Path
    container: dict[str, Any] = field(default_factory=lambda: dict(CONTAINER))
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def read(self, text: str, *options: str) -> tuple[dict[str, Any], str]:
        """What is in the inventory, and what was warned of."""
        source = self.folder / "lab.minikube.yml"
        source.write_text("plugin: mlops.mlflow.minikube\n" + text)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MINIKUBE")}
        done = subprocess.run(
            ["ansible-inventory", "-i", str(source), "--list", *options],
            env=environment
            | {"DOCKER_HOST": f"unix://{self.folder}/docker.sock", "ANSIBLE_NOCOLOR": "1", "COLUMNS": "999"}
            | self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout), " ".join(done.stderr.split())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path)
    for kind, fixture in (("profiles", "profile-docker.json"), ("machines", "machine-docker.json")):
        folder = found.home / ".minikube" / kind / "lab"
        folder.mkdir(parents=True)
        shutil.copy(FIXTURES / fixture, folder / "config.json")

    class Engine(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/containers/lab/json" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(found.container).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with socketserver.UnixStreamServer(str(tmp_path / "docker.sock"), Engine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def hosts(inventory: dict[str, Any], group: str) -> list[str]:
    return list(inventory.get(group, {}).get("hosts", []))


def plain(value: Any) -> Any:
    """A value without the marks that say it is no template."""
    return value["__ansible_unsafe"] if isinstance(value, dict) else value


def test_a_running_node_is_a_host_in_both_groups(lab: Lab) -> None:
    inventory, said = lab.read(f"profile: lab\nhome: {lab.home}\n")
    assert hosts(inventory, "minikube_nodes") == hosts(inventory, "minikube_control_plane") == ["lab"]
    assert {name: plain(value) for name, value in inventory["_meta"]["hostvars"]["lab"].items()} == {
        "ansible_host": "127.0.0.1",
        "ansible_port": 32772,
        "ansible_user": "docker",
        "ansible_ssh_private_key_file": str(lab.home / ".minikube/machines/lab/id_rsa"),
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        " -o IdentitiesOnly=yes -o LogLevel=ERROR",
        "minikube_home": str(lab.home),
        "minikube_node_name": "lab",
        "minikube_node_ip": "192.168.49.2",
        "minikube_profile": "lab",
    }
    assert "WARNING" not in said


def test_a_missing_profile_is_an_empty_group_and_a_warning(lab: Lab) -> None:
    inventory, said = lab.read(f"profile: other\nhome: {lab.home}\n")
    assert hosts(inventory, "minikube_nodes") == hosts(inventory, "minikube_control_plane") == []
    assert "minikube_nodes" in inventory["all"]["children"]
    assert "There is no Minikube profile 'other'" in said
    assert "profiles there: lab" in said


def test_a_stopped_node_is_left_out_with_a_warning(lab: Lab) -> None:
    lab.container["State"] = {"Running": False}
    inventory, said = lab.read(f"profile: lab\nhome: {lab.home}\n")
    assert hosts(inventory, "minikube_nodes") == []
    assert "Node 'lab' of Minikube profile 'lab' is left out" in said
    assert "container 'lab' is not running" in said


def test_without_an_engine_the_group_is_empty(lab: Lab) -> None:
    lab.environment["DOCKER_HOST"] = f"unix://{lab.folder}/none.sock"
    inventory, said = lab.read(f"profile: lab\nhome: {lab.home}\n")
    assert hosts(inventory, "minikube_nodes") == []
    assert "no Docker engine answers" in said


def test_a_half_written_profile_is_an_empty_group_and_a_warning(lab: Lab) -> None:
    (lab.home / ".minikube/profiles/lab/config.json").write_text("{")
    inventory, said = lab.read(f"profile: lab\nhome: {lab.home}\n")
    assert hosts(inventory, "minikube_nodes") == []
    assert "There is no Minikube profile 'lab'" in said


def test_the_file_wins_over_the_environment(lab: Lab) -> None:
    lab.environment |= {"MINIKUBE_HOME": str(lab.home), "MINIKUBE_PROFILE": "other"}
    assert hosts(lab.read("profile: lab\n")[0], "minikube_nodes") == ["lab"]
    assert "no Minikube profile 'other'" in lab.read("")[1]


def test_extra_variables_win_over_the_file(lab: Lab) -> None:
    inventory, _ = lab.read(f"profile: other\nhome: {lab.home}\n", "-e", "minikube_profile=lab")
    assert hosts(inventory, "minikube_nodes") == ["lab"]


def test_options_are_templates(lab: Lab) -> None:
    lab.environment["LAB_CACHE"] = str(lab.folder)
    home = "\"{{ lookup('ansible.builtin.env', 'LAB_CACHE') }}/home\""
    assert hosts(lab.read(f"profile: lab\nhome: {home}\n")[0], "minikube_nodes") == ["lab"]


def test_the_none_driver_is_a_local_connection(lab: Lab) -> None:
    machine = lab.home / ".minikube/machines/lab/config.json"
    machine.write_text(json.dumps(json.loads(machine.read_text()) | {"DriverName": "none"}))
    variables = lab.read(f"profile: lab\nhome: {lab.home}\n")[0]["_meta"]["hostvars"]["lab"]
    assert plain(variables["ansible_connection"]) == "local"
    assert "ansible_port" not in variables


def test_a_name_that_cannot_be_a_profile_is_told(lab: Lab) -> None:
    inventory, said = lab.read(f"profile: '../lab'\nhome: {lab.home}\n")
    assert hosts(inventory, "minikube_nodes") == []
    assert "'../lab' cannot be the name of a Minikube profile" in said
