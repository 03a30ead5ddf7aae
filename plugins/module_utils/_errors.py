# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception base of the collection, and the one place that turns it into `fail_json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


class MlopsError(Exception):
    """What the user is told when something cannot be done.

    The message says what was attempted, with what, and what to do next; `details` are returned
    beside it as result keys (command, output, ...), so that a playbook can act on them.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details


def run_module(module: AnsibleModule, work: Callable[[AnsibleModule], Mapping[str, Any]]) -> None:
    """Run `work` and exit with the mapping that it returns, or fail with its `MlopsError`."""
    try:
        result = work(module)
    except MlopsError as error:
        module.fail_json(msg=error.message, **error.details)
    module.exit_json(**result)
