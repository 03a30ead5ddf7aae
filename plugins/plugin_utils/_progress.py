# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows what a module of long duration is doing while it does it.

The module appends lines to a file; a thread of the action plugin displays them. Ansible itself shows a module's
output only when it has ended.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

_INTERVAL_SECONDS = 0.3
_display = Display()


def follow(path: Path, ended: threading.Event, show: Callable[[str], None]) -> None:
    """Show each complete line that is appended to `path`, until `ended` is set and the rest is read."""
    buffer = ""
    with path.open(encoding="utf-8", errors="replace") as stream:
        last = False
        while not last:
            last = ended.wait(_INTERVAL_SECONDS)
            buffer += stream.read()
            *lines, buffer = buffer.split("\n")
            for line in lines:
                show(line)
    if buffer:
        show(buffer)


def private_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for this task alone, below the one that Ansible removes at its end: also when it is interrupted."""
    return tempfile.TemporaryDirectory(prefix="mlops-", dir=constants.DEFAULT_LOCAL_TMP)


class ProgressAction(ActionBase):
    """Runs the module of the same name with `progress_file` set, where it runs on the controller."""

    _supports_async = True

    @property
    def on_controller(self) -> bool:
        """Whether the module runs on this machine, where it can write to a file that is read here."""
        return self._connection.transport in ("local", "ansible.builtin.local")

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module and show the lines that it writes."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if not self.on_controller or self._task.async_val or arguments.get("progress_file"):
            result.update(self._module(arguments, task_vars))
            return result
        with private_folder() as folder:
            path = Path(folder) / "lines"
            path.touch(mode=0o600)
            ended = threading.Event()
            thread = threading.Thread(
                target=follow, args=(path, ended, lambda line: _display.display(f"  {line}")), daemon=True
            )
            thread.start()
            try:
                result.update(self._module({**arguments, "progress_file": str(path)}, task_vars))
            finally:
                ended.set()
                thread.join()
        # Not for users, and another each time: keep it out of what -vvv and callbacks show.
        result.get("invocation", {}).get("module_args", {}).pop("progress_file", None)
        return result

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_args=arguments, task_vars=task_vars, wrap_async=bool(self._task.async_val)
        )
        return answer
