# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repository on the controller holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.mlops.mlflow.plugins.module_utils._backup_manifest import BACKUPS, name_of
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_store import Directory, find, load, verify
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "directory": {"type": "path", "required": True},
    "verify": {"type": "str"},
}


def backup_info(module: AnsibleModule) -> Mapping[str, Any]:
    """The module's result; raises MlopsError."""
    directory, wanted = Directory(module.params["directory"]), module.params["verify"]
    if wanted:
        manifest = find(directory, wanted)
        verify(directory, manifest)
        return {"changed": False, "backups": [manifest.describe()]}
    backups: list[dict[str, Any]] = []
    for key in sorted(directory.keys(BACKUPS)):
        try:
            backups.append(load(directory, name_of(key)).describe())
        except MlopsError as error:
            module.warn(error.message)
    return {"changed": False, "backups": backups}
