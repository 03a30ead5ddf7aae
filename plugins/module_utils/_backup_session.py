# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of a step whose repository is a directory of the controller: a Job whose pod asks for it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._backup_pipe import serve
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_store import Directory
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes import Connection, connect
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes_apply import Tell
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes_exec import execute
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes_job import (
    Seen,
    check,
    end,
    look,
    planned,
    start,
)

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str", "required": True},
    "definition": {"type": "dict", "required": True},
    "objects": {"type": "list", "elements": "dict", "default": []},
    "command": {"type": "list", "elements": "str", "required": True},
    "directory": {"type": "path", "required": True},
    "timeout": {"type": "int", "default": 3600},
}

START_TIMEOUT = 120  # seconds
POLL = 0.3


def running_pod(connection: Connection, seen: Seen, tell: Tell) -> str:
    """The name of the Job's pod once its container runs; MlopsError where it does not."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        look(connection, seen)
        for pod in seen.pods.values():
            statuses = pod["status"].get("containerStatuses") or []
            if any("running" in each["state"] for each in statuses):
                return str(pod["metadata"]["name"])
        if line := seen.news():
            tell(line)
        if end(seen.job):
            raise MlopsError(seen.failure(connection.context))
        if time.monotonic() > deadline:
            metadata = seen.job["metadata"]
            raise MlopsError(
                f"The pod of Job {metadata['namespace']}/{metadata['name']} does not run after {START_TIMEOUT} s:"
                f" {'; '.join(seen.told.values()) or 'there is none'}."
            )
        time.sleep(POLL)


def converse(
    connection: Connection, where: tuple[str, str], command: Sequence[str], path: str, tell: Tell
) -> dict[str, Any]:
    """Run the command in a pod (namespace, name) and serve it the directory; its result."""
    session = execute(connection, *where, command, tell)
    try:
        answer = serve(Directory(path), session)
    except EOFError as error:
        raise MlopsError(f"The program in pod {'/'.join(where)} ended too early: {session.ended}.") from error
    finally:
        session.close()
    if "error" in answer:
        raise MlopsError(answer["error"])
    return dict(answer["result"])


def backup_session(parameters: Mapping[str, Any], *, check_mode: bool, tell: Tell) -> dict[str, Any]:
    """The result; raises MlopsError. `tell` shows a line to people."""
    definition, objects, timeout = parameters["definition"], parameters["objects"], parameters["timeout"]
    check(definition, objects, timeout)
    if check_mode:
        return {"changed": True, "result": None}
    connection = connect(parameters["kubeconfig"], parameters["context"], os.environ)
    running, _started = start(connection, planned(definition, objects, timeout), objects, tell)
    pod = running_pod(connection, Seen(running, []), tell)
    where = (definition["metadata"]["namespace"], pod)
    result = converse(connection, where, parameters["command"], parameters["directory"], tell)
    return {"changed": True, "result": result}
