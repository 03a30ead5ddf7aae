#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of the action plugin node_directory."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_directory
short_description: Keep a directory on a node that has no Python
version_added: 0.1.0
description:
  - Makes or removes the directory of a C(hostPath) volume on a Kubernetes node, with its owner, mode and a few small
    files.
  - It is an action plugin. It needs a POSIX shell, C(stat) and C(readlink) on the node, and no Python.
  - One round trip over the play's connection reads the state. A second one is made only where something has to change.
  - Where the connection's user is not root, C(sudo -n) is used.
  - Before anything is changed it refuses relative paths, paths with C(..), the system's own directories, paths through
    a symbolic link, and whatever exists and is not a directory.
author:
  - mlops.mlflow maintainers (@mlops)
options:
  path:
    description:
      - Absolute path of the directory on the node.
      - Directories above it that are missing are made with mode C(0755) and belong to root. Others are left alone.
      - On Minikube's virtual machines only C(/data) and a few more directories survive a restart.
    type: raw
    required: true
  state:
    description:
      - With V(absent), the directory is removed with all that it contains. The directories above it stay.
    type: str
    choices: [present, absent]
    default: present
  owner:
    description:
      - User by number, or by a name that the node knows.
    type: str
    default: "0"
  group:
    description:
      - Group by number, or by a name that the node knows. By default the same as O(owner).
    type: str
  mode:
    description:
      - Mode of the directory, as octal text.
    type: raw
    default: "0750"
  files:
    description:
      - Small text files to keep in the directory, by name, at most 64 KiB each. They get the directory's owner.
    type: dict
    default: {}
  file_mode:
    description:
      - Mode of these files, as octal text.
    type: raw
    default: "0640"
  min_free_mb:
    description:
      - Space in MB (of 1024 KiB) that must be free before the directory is made.
      - Where the directory is there already, too little space is a warning.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: Reads the node and tells exactly what would change.
  diff_mode:
    support: full
    description: Shows the directory's and the files' differences.
  platform:
    support: full
    description: Nodes with a POSIX shell.
    platforms: posix
"""

EXAMPLES = r"""
- name: Keep MLflow's directory on the node
  mlops.mlflow.node_directory:
    path: /data/mlflow
    owner: "10001"
    mode: "0750"
    min_free_mb: 1024
    files:
      index.html: Hello from Kubernetes storage

- name: Remove it with all runs and artifacts
  mlops.mlflow.node_directory:
    path: /data/mlflow
    state: absent
"""

RETURN = r"""
path:
  description: The directory's path without superfluous slashes.
  returned: success
  type: str
state:
  description: The state asked for.
  returned: success
  type: str
owner:
  description: Number of the user.
  returned: when O(state=present)
  type: int
group:
  description: Number of the group.
  returned: when O(state=present)
  type: int
mode:
  description: The directory's mode as octal text.
  returned: when O(state=present)
  type: str
files:
  description: Names of the files that are kept.
  returned: when O(state=present)
  type: list
  elements: str
free_mb:
  description: Free space there, in MB of 1024 KiB.
  returned: when O(state=present)
  type: int
filesystem:
  description: Type of the file system, as the node's C(stat -f) calls it.
  returned: when O(state=present)
  type: str
command:
  description: The command that failed on the node.
  returned: when a command failed
  type: str
rc:
  description: Its exit code.
  returned: when a command failed
  type: int
stderr:
  description: Its output.
  returned: when a command failed
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._node_directory import ARGUMENT_SPEC


def main() -> None:
    """Only reached where the action plugin of the same name was not found."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="node_directory is an action plugin: call it by its full name, mlops.mlflow.node_directory.")


if __name__ == "__main__":
    main()
