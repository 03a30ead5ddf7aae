"""node_directory through real sshd's: users with and without sudo, and a busybox root without Python or coreutils.

Needs root and Debian's openssh-server, sudo and busybox-static; installs them where they are missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="starts sshd and makes users, which takes root")
USERS = ("mlops-test-sudo", "mlops-test-plain")
DIRECTORY = Path("/data-mlops-test")  # not below /tmp: the users are told nothing about pytest's private directories


@dataclass(frozen=True)
class Node:
    """How a play reaches one of the test nodes, and where that node's root is on this machine."""

    hostvars: dict[str, Any]
    root: Path


def quietly(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=300)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def sshd(directory: Path, *options: str) -> Iterator[int]:
    """A sshd with keys of its own on a free port of 127.0.0.1, which it gives."""
    port = free_port()
    config = [f"-o{option}" for option in ("ListenAddress=127.0.0.1", "UsePAM=no", "StrictModes=no", "PidFile=none")]
    config += [f"-oAuthorizedKeysFile={directory}/key.pub", f"-oHostKey={directory}/host", *options]
    server = subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", str(port), *config], stderr=subprocess.PIPE
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def reachable(directory: Path) -> Path:
    """Let other users pass through `directory` and those above it: pytest makes them private."""
    for path in (directory, *directory.parents):
        if not path.stat().st_mode & 0o011:
            path.chmod(path.stat().st_mode | 0o011)
    return directory


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [
        package
        for package, program in (("openssh-server", "sshd"), ("sudo", "sudo"), ("busybox-static", "busybox"))
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
    ]
    if missing:
        quietly("apt-get", "update", "-qq")
        quietly("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)
    Path("/run/sshd").mkdir(exist_ok=True)
    directory = tmp_path_factory.mktemp("ssh")
    for name in ("key", "host"):
        quietly("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
    reachable(directory)
    (directory / "key.pub").chmod(0o644)
    return directory


def hostvars(port: int, keys: Path, user: str) -> dict[str, Any]:
    return {
        "ansible_host": "127.0.0.1",
        "ansible_port": port,
        "ansible_user": user,
        "ansible_ssh_private_key_file": str(keys / "key"),
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        " -o ControlPath=none",
    }


@pytest.fixture(scope="session")
def users() -> Iterator[None]:
    sudoers = Path("/etc/sudoers.d/mlops-test")
    for user in USERS:
        with contextlib.suppress(KeyError):
            pwd.getpwnam(user)
            quietly("userdel", user)
        quietly("useradd", "--no-create-home", "--home-dir", "/", "--shell", "/bin/sh", user)
        quietly("usermod", "--password", "*", user)
    sudoers.write_text(f"{USERS[0]} ALL=(ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    try:
        yield
    finally:
        sudoers.unlink()
        for user in USERS:
            quietly("userdel", user)


def tools(directory: Path, *more: str) -> Path:
    """`directory`, filled with what node_directory relies on: a PATH without Python."""
    names = "sh id tr stat readlink od cut sed mkdir chown chmod mktemp mv cat rm"
    for name in (*names.split(), *more):
        (directory / name).symlink_to(Path("/usr/bin") / name)
    return reachable(directory)


@pytest.fixture(scope="session")
def server(keys: Path, users: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with sshd(keys, f"-oSetEnv=PATH={tools(tmp_path_factory.mktemp('tools'), 'sudo')}") as port:
        yield port


@pytest.fixture
def debian(keys: Path, server: int) -> Iterator[Node]:
    yield Node(hostvars(server, keys, USERS[0]), Path("/"))
    if DIRECTORY.exists():
        shutil.rmtree(DIRECTORY)


@pytest.fixture
def plain(keys: Path, server: int) -> Node:
    return Node(hostvars(server, keys, USERS[1]), Path("/"))


@pytest.fixture
def busybox(keys: Path) -> Iterator[Node]:
    """Root in a tree that has nothing but busybox, as in Minikube's virtual machines."""
    root = Path(tempfile.mkdtemp(prefix="mlops-test-", dir="/var/lib"))  # sshd refuses a chroot below /tmp
    root.chmod(0o755)
    for directory in ("bin", "etc", "dev", "tmp", "proc"):
        (root / directory).mkdir()
    (root / "tmp").chmod(0o1777)
    program = shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin" / "busybox")
    for applet in subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    shell = root / pwd.getpwuid(0).pw_shell[1:]  # sshd looks it up outside the chroot
    if not shell.exists():
        shell.parent.mkdir(parents=True, exist_ok=True)
        shell.write_text('#!/bin/sh\nexec /bin/sh "$@"\n')
        shell.chmod(0o755)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nmlflow:x:10001:10001::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nmlflow:x:10001:\n")
    os.mknod(root / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    try:
        with sshd(keys, f"-oChrootDirectory={root}", "-oPermitRootLogin=yes", "-oSetEnv=PATH=/bin") as port:
            yield Node(hostvars(port, keys, "root"), root)
    finally:
        shutil.rmtree(root)


def run(node: Node, tmp_path: Path, *tasks: dict[str, Any], check: bool = False) -> list[dict[str, Any]]:
    """The results of `tasks`, each a set of options of node_directory; all of them are run in one play."""
    play = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "name": f"Task {number}",
                "mlops.mlflow.node_directory": options,
                "register": "result",
                "ignore_errors": True,
            }
            for number, options in enumerate(tasks)
        ],
    }
    playbook = tmp_path / "play.json"
    playbook.write_text(json.dumps([play]))
    config = tmp_path / "ansible.cfg"
    config.touch()
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"node": node.hostvars}}}))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(playbook), "--diff"]
    environment = os.environ | {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_CONFIG": str(config)}
    done = subprocess.run(
        command + ["--check"] * check, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return [task["hosts"]["node"] for task in json.loads(done.stdout)["plays"][0]["tasks"]]


@pytest.mark.parametrize("name", ["debian", "busybox"])
def test_round_trip(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    node: Node = request.getfixturevalue(name)
    leaf = f"{DIRECTORY}/nested/ml flow"
    options = {"path": leaf, "owner": "10001", "mode": "0750", "files": {"index.html": "Hello\n"}, "min_free_mb": 1}
    here = node.root / leaf[1:]

    (dry,) = run(node, tmp_path, options, check=True)
    assert dry["changed"], dry["msg"]
    assert not (node.root / str(DIRECTORY)[1:]).exists()

    first, second = run(node, tmp_path, options, options)
    assert first["changed"], first
    assert first["diff"] == dry["diff"]
    assert first["diff"][0]["after"]["created_parents"] == [str(DIRECTORY), f"{DIRECTORY}/nested"]
    assert not second["changed"], second
    assert second["diff"] == []
    assert (here.stat().st_uid, here.stat().st_gid, here.stat().st_mode & 0o7777) == (10001, 10001, 0o750)
    assert (here.parent.stat().st_uid, here.parent.stat().st_mode & 0o7777) == (0, 0o755)
    assert (here / "index.html").read_text() == "Hello\n"
    assert (here / "index.html").stat().st_uid == 10001
    assert second["free_mb"] > 0

    here.chmod(0o2777)
    os.chown(here, 0, 0)
    dry, repaired = (run(node, tmp_path, options, check=mode)[0] for mode in (True, False))
    assert dry["diff"] == repaired["diff"]
    assert repaired["diff"][0]["before"] == {"owner": 0, "group": 0, "mode": "2777"}
    assert here.stat().st_mode & 0o7777 == 0o750

    absent = {"path": leaf, "state": "absent"}
    removed, again = run(node, tmp_path, absent, absent)
    assert removed["changed"]
    assert not again["changed"]
    assert not here.exists()
    assert here.parent.exists()


def test_bad_input_changes_nothing(debian: Node, tmp_path: Path) -> None:
    DIRECTORY.mkdir()
    (DIRECTORY / "file").write_text("kept")
    (DIRECTORY / "link").symlink_to("/etc")
    cases = {
        "/": "belongs to the node's system",
        "data/mlflow": "is relative",
        f"{DIRECTORY}/../etc": r"contains '..'",
        f"{DIRECTORY}/link/mlflow": "is a symbolic link to /etc",
        f"{DIRECTORY}/file": "is a file, not a directory",
    }
    for result, reason in zip(run(debian, tmp_path, *({"path": path} for path in cases)), cases.values(), strict=True):
        assert result["failed"]
        assert reason in result["msg"]
    (unquoted,) = run(debian, tmp_path, {"path": f"{DIRECTORY}/new", "mode": 750})
    assert "must be an octal mode in quotes" in unquoted["msg"]
    assert sorted(path.name for path in DIRECTORY.iterdir()) == ["file", "link"]
    assert not Path("/etc/mlflow").exists()


def test_a_node_without_sudo(plain: Node, tmp_path: Path) -> None:
    (result,) = run(plain, tmp_path, {"path": str(DIRECTORY)})
    assert result["failed"]
    assert "may not use sudo without a password" in result["msg"]
    assert "a password is required" in result["msg"]
    assert not DIRECTORY.exists()


def test_a_node_without_the_sudo_program(keys: Path, users: None, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    with sshd(keys, f"-oSetEnv=PATH={tools(tmp_path / 'bin')}") as port:
        (result,) = run(Node(hostvars(port, keys, USERS[0]), Path("/")), tmp_path, {"path": str(DIRECTORY)})
    assert "may not use sudo without a password" in result["msg"]
    assert "sudo: command not found" in result["msg"]


def test_no_space_on_the_node(debian: Node, tmp_path: Path) -> None:
    DIRECTORY.mkdir()
    quietly("mount", "-t", "tmpfs", "-o", "size=16k", "none", str(DIRECTORY))
    try:
        (asked,) = run(debian, tmp_path, {"path": f"{DIRECTORY}/mlflow", "min_free_mb": 100})
        assert "No space on the node: 0 MB are free" in asked["msg"]
        assert not (DIRECTORY / "mlflow").exists()
        (full,) = run(debian, tmp_path, {"path": f"{DIRECTORY}/mlflow", "files": {"big": "x" * 65536}})
        assert "save" in full["command"]
        assert "No space left on device" in full["msg"]
        assert [path.name for path in DIRECTORY.iterdir()] == ["mlflow"]
        (mounted,) = run(debian, tmp_path, {"path": str(DIRECTORY), "state": "absent"})
        assert "is a mount point on the node" in mounted["msg"]
    finally:
        quietly("umount", str(DIRECTORY))


def test_an_unreachable_node(keys: Path, tmp_path: Path) -> None:
    (result,) = run(Node(hostvars(free_port(), keys, "root"), Path("/")), tmp_path, {"path": "/data/mlflow"})
    assert result["unreachable"]
    assert "Connection refused" in result["msg"]
