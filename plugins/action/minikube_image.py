# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the progress of the module minikube_image, and keeps a build's files out of its arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_image import check_files, write_context
from ansible_collections.mlops.mlflow.plugins.plugin_utils._progress import ProgressAction, private_folder


class ActionModule(ProgressAction):
    """Passes `files` to the module as a private folder: arguments are logged, and shown at `-vvv`."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module."""
        files = self._task.args.get("files")
        if files is None or not self.on_controller or {"context", "archive"} & self._task.args.keys():
            return super().run(tmp, task_vars)  # The module says what is wrong with the rest.
        with private_folder() as folder:
            try:
                write_context(Path(folder), check_files(files))
            except MlopsError as error:
                return {"failed": True, "msg": error.message}
            self._task.args = {key: value for key, value in self._task.args.items() if key != "files"}
            self._task.args["context"] = folder
            return super().run(tmp, task_vars)
