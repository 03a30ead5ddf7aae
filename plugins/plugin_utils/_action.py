# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of the action plugins that do their work themselves: what `run_module` is to modules."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError


class MlopsAction(ActionBase):
    """Validates the task's arguments by `argument_spec` and turns MlopsError into a failed result."""

    _supports_check_mode = True
    _supports_async = False
    argument_spec: ClassVar[dict[str, dict[str, Any]]]

    def work(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The task's result; raises MlopsError."""
        raise NotImplementedError

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The task's result, by Ansible's contract for action plugins."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        parameters = self.validate_argument_spec(self.argument_spec)[1]
        try:
            return result | self.work(parameters)
        except MlopsError as error:
            return result | {"failed": True, "msg": error.message, **error.details}
