#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of the action plugin backup_session."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_session
short_description: Run a step of a backup or restore in a pod that reads and writes a directory of the controller
version_added: 0.1.0
description:
  - Starts a Job, runs a command in its pod when it is there, and serves that command a repository of backups in a
    directory of the controller, over the API server's own connection. Nothing listens on the network.
  - An object is kept only if its content has the digest that names it, and no key leaves the directory.
  - It is what the role C(backup) is made of; M(mlops.mlflow.backup_info) looks into the directory.
author:
  - mlops.mlflow maintainers (@mlops)
requirements:
  - kubernetes (Python package) >= 31
options:
  kubeconfig:
    description: The kubeconfig file.
    type: path
  context:
    description: Name of the context in it.
    type: str
    required: true
  definition:
    description: The Job (C(batch/v1)), with name and namespace. Its pod waits for the command and ends after it.
    type: dict
    required: true
  objects:
    description: Objects that the Job needs, in its namespace. They go when the Job goes.
    type: list
    elements: dict
    default: []
  command:
    description: The command that is run in the pod's first container.
    type: list
    elements: str
    required: true
  directory:
    description: The repository on the controller.
    type: path
    required: true
  timeout:
    description: Seconds after which Kubernetes ends the Job.
    type: int
    default: 3600
attributes:
  check_mode:
    support: full
    description: Nothing is sent.
  diff_mode:
    support: none
    description: What a step does is in its answer.
  platform:
    support: full
    description: The controller.
    platforms: posix
"""

EXAMPLES = r"""
- name: Back up
  mlops.mlflow.backup_session:
    context: minikube
    definition: "{{ job }}"
    objects: ["{{ program }}"]
    command: [python3, -m, program, make]
    directory: ~/backups
"""

RETURN = r"""
result:
  description: What the command answered, null in check mode.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_session import ARGUMENT_SPEC


def main() -> None:
    """Only reached where the action plugin of the same name was not found."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="backup_session is an action plugin: call it by its full name.")


if __name__ == "__main__":
    main()
