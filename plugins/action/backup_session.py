# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a step of a backup or restore in a pod, and serves it a repository in a directory of the controller."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._backup_session import ARGUMENT_SPEC, backup_session
from ansible_collections.mlops.mlflow.plugins.plugin_utils._kubernetes import KubernetesAction


class ActionModule(KubernetesAction):
    """Everything is in module_utils."""

    argument_spec = ARGUMENT_SPEC

    def work(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Run the step; what it tells is displayed."""
        return backup_session(
            parameters, check_mode=self._task.check_mode, tell=lambda line: self._display.display(f"  {line}")
        )
