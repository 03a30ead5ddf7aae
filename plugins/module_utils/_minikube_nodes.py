# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How to reach the nodes of a Minikube profile by SSH, from Minikube's files and the container engine.

The contract relied on is Minikube v1.38.1: `machines/<machine>/config.json` is libmachine's host record
(`DriverName`, `Driver.{IPAddress,SSHUser,SSHPort,SSHKeyPath}`); `GetSSHHostname`, `GetSSHPort`, `GetSSHUsername`
and `GetSSHKeyPath` of pkg/drivers/{kic,ssh,qemu,none} say what becomes of it. The `minikube` program is not needed.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import CONTAINER_DRIVERS, Node, Profile

# pkg/libmachine/ssh/client.go, `baseSSHArgs`.
SSH_OPTIONS = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "LogLevel=ERROR")

_SSH_PORT = 22
_PROBE_SECONDS = 2.0
_ENGINE_SECONDS = 15.0
_DOCKER_SOCKET = "/var/run/docker.sock"

Inspect = Callable[[str, str], Mapping[str, Any]]
Probe = Callable[[str, int], bool]


class UnreachableError(Exception):
    """Why a node cannot be connected to now; not an error, as a stopped cluster is a normal state."""


@dataclass(frozen=True)
class Endpoint:
    """How to connect to a node. `local`: the node is this machine (driver none), nothing of SSH applies."""

    host: str
    port: int = _SSH_PORT
    user: str = ""
    private_key: str = ""
    local: bool = False

    def ssh_command(self) -> list[str]:
        """The arguments that open an SSH session, as Minikube opens it: each start makes a new host key."""
        options = [option for pair in SSH_OPTIONS for option in ("-o", pair)]
        key = ["-i", self.private_key] if self.private_key else []
        return ["ssh", *options, "-o", "BatchMode=yes", *key, "-p", str(self.port), f"{self.user}@{self.host}"]

    def record(self) -> dict[str, Any]:
        return {"host": self.host, "port": self.port, "user": self.user, "private_key": self.private_key}


def endpoint(
    minikube_path: Path, profile: Profile, node: Node, inspect: Inspect | None = None, probe: Probe | None = None
) -> Endpoint:
    """Where the node's SSH server listens now. Raises UnreachableError when the node is missing or stopped."""
    machine_path = minikube_path / "machines" / node.machine
    driver_name, driver = _load_machine(machine_path, profile)
    if driver_name == "none":
        return Endpoint(host=node.ip or "127.0.0.1", local=True)
    if driver_name in CONTAINER_DRIVERS:
        port = _published_port((inspect or inspect_container)(driver_name, node.machine), node.machine)
        return Endpoint(_daemon_host(driver_name), port, "docker", str(machine_path / "id_rsa"))
    found = _machine_endpoint(driver_name, driver, machine_path, node)
    if not (probe or listens)(found.host, found.port):
        raise UnreachableError(
            f"nothing answers on {found.host}, port {found.port}: node '{node.machine}' is not running"
        )
    return found


def _load_machine(machine_path: Path, profile: Profile) -> tuple[str, Mapping[str, Any]]:
    try:
        document = json.loads((machine_path / "config.json").read_text(encoding="utf-8"))
        return str(document.get("DriverName") or profile.driver), document.get("Driver") or {}
    except (FileNotFoundError, NotADirectoryError):
        raise UnreachableError(f"there is no machine '{machine_path.name}' in {machine_path.parent}") from None
    except (OSError, ValueError, AttributeError) as error:
        raise UnreachableError(f"{machine_path / 'config.json'} cannot be read: {error}") from error


def _machine_endpoint(driver_name: str, driver: Mapping[str, Any], machine_path: Path, node: Node) -> Endpoint:
    """Machines that have an SSH server of their own: VMs, and hosts of the ssh driver."""
    if driver_name == "ssh":
        # Create() of pkg/drivers/ssh copies the key to the machine's folder; without a key SSH's own defaults apply.
        key = driver.get("SSHKeyPath") or (machine_path / Path(driver["SSHKey"]).name if driver.get("SSHKey") else "")
        return Endpoint(
            driver.get("IPAddress") or node.ip,
            int(driver.get("SSHPort") or _SSH_PORT),
            driver.get("SSHUser") or "root",
            str(key),
        )
    # libmachine's virtualbox driver and qemu's built-in network forward a port of this machine.
    forwarded = driver_name == "virtualbox" or (driver_name == "qemu2" and driver.get("Network") in ("builtin", "user"))
    host = "127.0.0.1" if forwarded else driver.get("IPAddress") or node.ip
    if not host:
        raise UnreachableError(f"node '{node.machine}' has no address yet")
    port, user = int(driver.get("SSHPort") or _SSH_PORT), driver.get("SSHUser") or "docker"
    return Endpoint(host, port, user, str(machine_path / "id_rsa"))


def _daemon_host(driver_name: str) -> str:
    """pkg/drivers/kic/oci, `DaemonHost`: ports of a remote engine are published there, not here."""
    variable = "CONTAINER_HOST" if driver_name == "podman" else "DOCKER_HOST"
    return urlsplit(os.environ.get(variable, "")).hostname or "127.0.0.1"


def _published_port(container: Mapping[str, Any], machine: str) -> int:
    if not container.get("State", {}).get("Running"):
        raise UnreachableError(f"container '{machine}' is not running")
    bindings = (container.get("NetworkSettings", {}).get("Ports") or {}).get("22/tcp") or []
    if not bindings:
        raise UnreachableError(f"container '{machine}' publishes no SSH port")
    return int(bindings[0]["HostPort"])


def listens(host: str, port: int) -> bool:
    """Whether a TCP connection is accepted within two seconds."""
    try:
        with socket.create_connection((host, port), timeout=_PROBE_SECONDS):
            return True
    except OSError:
        return False


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, as the Docker Engine API is served."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ENGINE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def inspect_container(driver_name: str, name: str) -> Mapping[str, Any]:
    """The container's record from the engine that Minikube uses.

    Docker is asked through its socket (a few milliseconds) unless a context or DOCKER_HOST names another engine;
    there, and for podman, through the command-line client. Raises UnreachableError without engine or container.
    """
    if driver_name == "docker" and (path := _docker_socket()):
        return _inspect_by_socket(path, name)
    return _inspect_by_client(driver_name, name)


def _docker_socket() -> str:
    """The socket to ask, or nothing where the client has to find the engine by its own rules."""
    host = os.environ.get("DOCKER_HOST", "")
    if host:
        return host.removeprefix("unix://") if host.startswith("unix://") else ""
    if os.environ.get("DOCKER_CONTEXT"):
        return ""
    settings = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser() / "config.json"
    try:
        context = json.loads(settings.read_text(encoding="utf-8")).get("currentContext") or "default"
    except (OSError, ValueError, AttributeError):
        context = "default"
    return _DOCKER_SOCKET if context == "default" and os.access(_DOCKER_SOCKET, os.R_OK | os.W_OK) else ""


def _inspect_by_socket(path: str, name: str) -> Mapping[str, Any]:
    connection = _UnixConnection(path)
    try:
        connection.request("GET", f"/containers/{name}/json")
        response = connection.getresponse()
        body = response.read()
    except OSError as error:
        raise UnreachableError(f"no Docker engine answers on {path}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise UnreachableError(f"the Docker engine has no container '{name}'")
    document: Mapping[str, Any] = json.loads(body)
    return document


def _inspect_by_client(driver_name: str, name: str) -> Mapping[str, Any]:
    client = shutil.which(driver_name)
    if client is None:
        raise UnreachableError(f"the program '{driver_name}' was not found, so container '{name}' cannot be looked up")
    # Minikube runs podman through sudo, except where it is told that podman is rootless.
    sudo = ["sudo", "-n"] if driver_name == "podman" and os.geteuid() != 0 and not _rootless_podman() else []
    try:
        done = subprocess.run(
            [*sudo, client, "container", "inspect", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ENGINE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreachableError(f"`{driver_name} container inspect {name}` failed: {error}") from error
    try:
        document: Mapping[str, Any] = json.loads(done.stdout)[0]
    except (ValueError, IndexError):
        raise UnreachableError(done.stderr.strip() or f"there is no container '{name}'") from None
    return document


def _rootless_podman() -> bool:
    """`minikube config set rootless true`, or its environment variable."""
    return os.environ.get("MINIKUBE_ROOTLESS", "").lower() in ("1", "true")
