# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real MLflow server on localhost, and Ansible against it; tests/integration/conftest.py hands the server out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.mlops.mlflow.plugins.module_utils import _mlflow_health as health

if TYPE_CHECKING:
    from mlflow import MlflowClient

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Running:
    """A tracking server, and the real client of it."""

    url: str
    port: int
    directory: Path
    real: MlflowClient

    @property
    def version(self) -> str:
        """The version of the installed package, which is the server's."""
        import mlflow  # noqa: PLC0415

        return str(mlflow.__version__)

    def rows(self) -> list[str]:
        """Everything that is in its database."""
        with contextlib.closing(sqlite3.connect(f"file:{self.directory}/mlflow.db?mode=ro", uri=True)) as database:
            return list(database.iterdump())

    def files(self) -> list[Path]:
        return [path for path in (self.directory / "artifacts").rglob("*") if path.is_file()]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def start_server(directory: Path, port: int) -> subprocess.Popen[bytes]:
    (directory / "artifacts").mkdir(exist_ok=True)
    with (directory / "server.log").open("ab") as log:
        return subprocess.Popen(
            [
                *(str(BIN / "mlflow"), "server", "--port", str(port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{directory}/mlflow.db"),
                *("--artifacts-destination", f"{directory}/artifacts"),
                *("--allowed-hosts", f"127.0.0.1:{port},mlflow.local,mlflow.local:*"),
            ],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[Running]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = start_server(directory, port)
    try:
        from mlflow import MlflowClient  # noqa: PLC0415  1.7 s, while the server starts

        health.check(options(url, levels=["process"], timeout=120, interval=0.2), read_only=True)
        yield Running(url, port, directory, MlflowClient(url))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it holds nothing that has to be kept
        process.wait(20)


def options(url: str, **changes: Any) -> dict[str, Any]:
    return {
        "tracking_uri": url,
        **dict.fromkeys(["host", "address", "ca_path", "username", "password", "endpoints", "version"]),
        "validate_certs": True,
        "levels": list(health.LEVELS),
        "artifact_size": 100_000,
        "timeout": 0,
        "interval": 0.2,
    } | changes


def ansible(module: str, arguments: dict[str, Any], *flags: str) -> tuple[bool, dict[str, Any]]:
    """Whether a module succeeded under the real `ansible` command, and its result."""
    done = subprocess.run(
        [
            *(str(BIN / "ansible"), "localhost", "-i", "localhost,", *flags),
            *("-m", f"mlops.mlflow.{module}", "-a", json.dumps(arguments)),
        ],
        env=os.environ | {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    start = done.stdout.index("=> {") + 3
    result: dict[str, Any] = json.JSONDecoder().raw_decode(done.stdout[start:])[0]
    return done.returncode == 0, result


PLAY = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/mlops.mlflow.mlflow:
      tracking_uri: "{{ url }}"
  tasks:
%s
    - ansible.builtin.copy:
        dest: "{{ out }}"
        content: "{{ dict(query('vars', *names) | zip(names) | map('reverse')) | to_json }}"
"""


def play(server: Running, directory: Path, tasks: str, **variables: Any) -> dict[str, dict[str, Any]]:
    """What the tasks of one play registered, by name."""
    playbook, out = directory / "play.yml", directory / "out.json"
    playbook.write_text(PLAY % tasks)
    names = re.findall(r"^ +register: (\w+)$", tasks, re.MULTILINE)
    extra = {"url": server.url, "out": str(out), "names": names, "ansible_python_interpreter": sys.executable}
    done = subprocess.run(
        [
            *(str(BIN / "ansible-playbook"), "-i", "localhost,", "-c", "local"),
            *("-e", json.dumps(extra | variables), str(playbook)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results: dict[str, dict[str, Any]] = json.loads(out.read_text())
    return results
