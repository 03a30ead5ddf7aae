# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a directory on a node over the play's own connection, with raw commands only: the node has no Python."""

from __future__ import annotations

import shlex
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils import _node_directory as node
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.plugin_utils._action import MlopsAction


class ActionModule(MlopsAction):
    """One round trip reads the state; a second one is made only where something has to change."""

    argument_spec = node.ARGUMENT_SPEC

    def work(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Compare the directory with what is wanted, and change what differs."""
        wanted = node.parse_wanted(parameters)
        found = self._on_node(node.read_script(wanted))
        node.refuse(wanted, found)
        for warning in node.warnings(wanted, found):
            self._display.warning(warning)
        changes = node.differences(wanted, found)
        result = {"changed": bool(changes), "diff": node.as_diff(changes)}
        if changes and not self._task.check_mode:
            found = self._on_node(node.apply_script(wanted, found))
            left = node.differences(wanted, found)
            if left:
                path, difference = next(iter(left.items()))
                raise MlopsError(
                    f"The node accepted every command, but {path} still has {difference.before} and not"
                    f" {difference.after}: its file system ({found.filesystem}) does not keep owners and modes.",
                    path=path,
                )
        return result | node.describe(wanted, found)

    def _on_node(self, script: str) -> node.Found:
        """What `script` answers as root. It goes through standard input: no PTY, no limit of length."""
        if self._connection.has_pipelining:
            command, stdin = node.AS_ROOT, script.encode()
        else:
            command, stdin = f"printf %s {shlex.quote(script)} | /bin/sh -c {shlex.quote(node.AS_ROOT)}", None
        answer = self._low_level_execute_command(command, in_data=stdin, executable="/bin/sh")
        if answer["rc"] != 0:
            raise MlopsError(
                f"The node's shell failed with exit code {answer['rc']}:"
                f" {(answer['stderr'] or answer['stdout']).strip() or 'no output'}",
                rc=answer["rc"],
                stderr=answer["stderr"],
                stdout=answer["stdout"],
            )
        return node.parse_found(answer["stdout"].replace("\r\n", "\n"))
