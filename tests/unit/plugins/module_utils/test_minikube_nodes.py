"""How nodes are reached, for each kind of driver.

Records of docker are real. The others have the shape that Minikube's drivers write: libmachine's host record, as in
github.com/kubernetes/minikube/pull/15887 for qemu2.
"""

from __future__ import annotations

import http.server
import json
import socket
import socketserver
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _minikube_nodes as nodes
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import Node, Profile
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_nodes import Endpoint, UnreachableError

FIXTURES = Path(__file__).parents[2] / "fixtures/minikube"
CONTAINER = json.loads((FIXTURES / "container.json").read_text())
NODE = Node("minikube", "minikube", "192.168.39.174", control_plane=True)


def machine(home: Path, driver_name: str, **driver: Any) -> Path:
    path = home / "machines/minikube"
    path.mkdir(parents=True)
    base = {"IPAddress": "", "MachineName": "minikube", "SSHUser": "", "SSHPort": 0, "SSHKeyPath": "", "StorePath": ""}
    record = {"ConfigVersion": 3, "Driver": base | driver, "DriverName": driver_name, "Name": "minikube"}
    (path / "config.json").write_text(json.dumps(record))
    return path


def find(home: Path, driver_name: str, *, up: bool = True, container: Mapping[str, Any] = CONTAINER) -> Endpoint:
    profile = Profile("minikube", {"Driver": driver_name})
    return nodes.endpoint(home, profile, NODE, lambda _driver, _name: container, lambda _host, _port: up)


def test_docker_publishes_a_port_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    path = tmp_path / "machines/minikube"
    path.mkdir(parents=True)
    (path / "config.json").write_bytes((FIXTURES / "machine-docker.json").read_bytes())
    assert find(tmp_path, "docker") == Endpoint("127.0.0.1", 32772, "docker", str(path / "id_rsa"))


def test_a_remote_engine_publishes_the_port_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.9:2376")
    machine(tmp_path, "docker")
    assert find(tmp_path, "docker").host == "10.0.0.9"
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/user/1000/docker.sock")
    assert find(tmp_path, "docker").host == "127.0.0.1"


def test_podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTAINER_HOST", raising=False)
    path = machine(tmp_path, "podman")
    assert find(tmp_path, "podman") == Endpoint("127.0.0.1", 32772, "docker", str(path / "id_rsa"))


@pytest.mark.parametrize(
    ("container", "why"),
    [
        ({**CONTAINER, "State": {"Running": False}}, "is not running"),
        ({**CONTAINER, "NetworkSettings": {"Ports": {}}}, "publishes no SSH port"),
        ({**CONTAINER, "NetworkSettings": {"Ports": None}}, "publishes no SSH port"),
    ],
)
def test_a_stopped_container(tmp_path: Path, container: Mapping[str, Any], why: str) -> None:
    machine(tmp_path, "docker")
    with pytest.raises(UnreachableError, match=why):
        find(tmp_path, "docker", container=container)


@pytest.mark.parametrize("driver_name", ["kvm2", "hyperkit", "vmware", "vfkit", "krunkit", "parallels", "hyperv"])
def test_a_vm_has_an_address_of_its_own(tmp_path: Path, driver_name: str) -> None:
    path = machine(tmp_path, driver_name, IPAddress="192.168.39.174", SSHUser="docker", SSHPort=22)
    assert find(tmp_path, driver_name) == Endpoint("192.168.39.174", 22, "docker", str(path / "id_rsa"))


def test_a_vm_whose_record_has_no_address_yet_has_the_node_s(tmp_path: Path) -> None:
    machine(tmp_path, "kvm2")
    assert find(tmp_path, "kvm2").host == NODE.ip


@pytest.mark.parametrize(("network", "host", "port"), [("builtin", "127.0.0.1", 38457), ("user", "127.0.0.1", 38457)])
def test_qemu_s_own_network_forwards_a_port(tmp_path: Path, network: str, host: str, port: int) -> None:
    machine(tmp_path, "qemu2", IPAddress="127.0.0.1", SSHPort=port, SSHUser="docker", Network=network)
    assert (find(tmp_path, "qemu2").host, find(tmp_path, "qemu2").port) == (host, port)


def test_qemu_on_a_network_of_the_host(tmp_path: Path) -> None:
    machine(tmp_path, "qemu2", IPAddress="192.168.105.13", SSHPort=22, SSHUser="docker", Network="socket_vmnet")
    assert find(tmp_path, "qemu2").host == "192.168.105.13"


def test_virtualbox_forwards_a_port(tmp_path: Path) -> None:
    machine(tmp_path, "virtualbox", IPAddress="192.168.59.100", SSHPort=41923, SSHUser="docker")
    assert (find(tmp_path, "virtualbox").host, find(tmp_path, "virtualbox").port) == ("127.0.0.1", 41923)


def test_the_ssh_driver_has_user_port_and_key_of_its_own(tmp_path: Path) -> None:
    path = machine(
        tmp_path, "ssh", IPAddress="10.1.2.3", SSHPort=2222, SSHUser="ops", SSHKey="/home/me/.ssh/lab", SSHKeyPath=""
    )
    assert find(tmp_path, "ssh") == Endpoint("10.1.2.3", 2222, "ops", str(path / "lab"))


def test_the_ssh_driver_without_key_leaves_it_to_ssh(tmp_path: Path) -> None:
    machine(tmp_path, "ssh", IPAddress="10.1.2.3")
    assert find(tmp_path, "ssh") == Endpoint("10.1.2.3", 22, "root", "")
    assert "-i" not in find(tmp_path, "ssh").ssh_command()


def test_the_node_of_the_none_driver_is_this_machine(tmp_path: Path) -> None:
    machine(tmp_path, "none")
    assert find(tmp_path, "none", up=False) == Endpoint(NODE.ip, local=True)


def test_a_vm_that_does_not_answer(tmp_path: Path) -> None:
    machine(tmp_path, "kvm2", IPAddress="192.168.39.174")
    with pytest.raises(UnreachableError, match=r"nothing answers on 192\.168\.39\.174, port 22"):
        find(tmp_path, "kvm2", up=False)


def test_a_machine_that_is_missing_or_half_written(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="there is no machine 'minikube'"):
        find(tmp_path, "docker")
    (machine(tmp_path, "docker") / "config.json").write_text("{")
    with pytest.raises(UnreachableError, match="cannot be read"):
        find(tmp_path, "docker")


def test_listening() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert nodes.listens("127.0.0.1", port)
    assert not nodes.listens("127.0.0.1", port)


class Engine(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/containers/minikube/json"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(CONTAINER if found else {"message": "No such container"}).encode())

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: Any) -> None:
        pass


def test_docker_is_asked_through_its_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"
    with socketserver.UnixStreamServer(str(path), Engine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        assert nodes.inspect_container("docker", "minikube") == CONTAINER
        with pytest.raises(UnreachableError, match="has no container 'other'"):
            nodes.inspect_container("docker", "other")
        server.shutdown()
    with pytest.raises(UnreachableError, match="no Docker engine answers"):
        nodes.inspect_container("docker", "minikube")


def test_a_context_is_left_to_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tmp_path / "docker"
    client.write_text(f'#!/bin/sh\n[ "$3" = minikube ] && printf "[%s]" "$(cat {FIXTURES}/container.json)"\n')
    client.chmod(0o755)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text('{"currentContext": "rootless"}')
    assert nodes.inspect_container("docker", "minikube") == CONTAINER
    with pytest.raises(UnreachableError, match="there is no container 'other'"):
        nodes.inspect_container("docker", "other")


def test_without_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.9:2376")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="'docker' was not found"):
        nodes.inspect_container("docker", "minikube")
