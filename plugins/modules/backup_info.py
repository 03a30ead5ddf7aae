#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what a repository of backups on the controller holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: List the backups in a directory of the controller, or verify one of them
version_added: 0.1.0
description:
  - Lists the backups that C(playbooks/backup.yml) made in a directory.
  - With O(verify), holds every object of one backup against its digest, and fails where one is missing or damaged.
author:
  - mlops.mlflow maintainers (@mlops)
options:
  directory:
    description: The repository. One that does not exist holds no backups.
    type: path
    required: true
  verify:
    description: Name of the backup to verify, or V(latest).
    type: str
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: It only reads.
  platform:
    support: full
    description: Any with Python.
    platforms: posix
"""

EXAMPLES = r"""
- name: Verify the newest backup
  mlops.mlflow.backup_info:
    directory: ~/.local/share/mlops-mlflow/backups/mlflow
    verify: latest
"""

RETURN = r"""
backups:
  description: The backups, the oldest first; with O(verify) that one alone. One that cannot be read is a warning.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: 20261124T103000.123456Z
    created:
      description: When it began.
      type: str
      sample: "2026-11-24T10:30:00+00:00"
    instance:
      description: The instance that it was made of.
      type: str
    mlflow_version:
      description: The MLflow version that served.
      type: str
    schema:
      description: The revision of the database's schema.
      type: str
    artifacts:
      description: How many artifacts it has.
      type: int
    objects:
      description: How many different contents those and the database have.
      type: int
    bytes:
      description: The size of artifacts and database.
      type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_info import ARGUMENT_SPEC, backup_info
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import run_module


def main() -> None:
    """Everything is in module_utils."""
    run_module(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True), backup_info)


if __name__ == "__main__":
    main()
