#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of mlflow_artifact."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_artifact
short_description: Keep a file in the artifact store
version_added: 0.1.0
description:
  - Uploads a file to the artifact store of an MLflow tracking server that serves artifacts, or removes one.
  - Files are compared by size and, where that is equal, by the SHA-256 of what the server returns. Content of any size
    is sent and read piece by piece.
author:
  - mlops.mlflow maintainers (@mlops)
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.keep
options:
  path:
    description:
      - Path in the store, relative to its root, as in V(mlflow-artifacts:/PATH); for example V(3/datasets/ab.csv).
      - Directories are made. A file of this path with other content is replaced; a directory is an error.
    type: str
    required: true
  src:
    description:
      - The file, on the host that runs the module. Needed with O(state=present).
    type: path
  state:
    description:
      - V(present) uploads the file where the store has none of that path and content.
      - V(absent) removes it for good. Its directory stays.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description:
      - Seconds that an answer of the server may take. It answers an upload when its own store has the file.
    type: float
    default: 300
"""

EXAMPLES = r"""
- name: Put the data where the Jobs of a sweep find it
  mlops.mlflow.mlflow_artifact:
    tracking_uri: http://mlflow.local
    src: data/creditcard.csv
    path: 3/datasets/creditcard.csv
  register: data

- name: Show how a client downloads it
  ansible.builtin.debug:
    msg: mlflow artifacts download --artifact-uri {{ data.uri }}
"""

RETURN = r"""
path:
  description: Its path in the store.
  returned: success
  type: str
  sample: 3/datasets/creditcard.csv
uri:
  description: Where clients find it.
  returned: success
  type: str
  sample: mlflow-artifacts:/3/datasets/creditcard.csv
size:
  description: Its size in bytes afterwards (in check mode, as it is); null where there is none.
  returned: success
  type: int
  sample: 150828752
sha256:
  description: SHA-256 of its content; null where there is none, or where its content was not read.
  returned: success
  type: str
  sample: 76274b691b16a6c49d3f159c883398e03ccd6d1ee12d9d8ee38f4b4b98551a89
error_code:
  description: MLflow's own code of an error.
  returned: when MLflow refused
  type: str
  sample: RESOURCE_DOES_NOT_EXIST
http_status:
  description: HTTP status of the refusal.
  returned: when a request was refused
  type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import run_module
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_artifact import ensure
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import argument_spec


def main() -> None:
    """Run the module."""
    spec = argument_spec() | {
        "path": {"type": "str", "required": True},
        "src": {"type": "path"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "timeout": {"type": "float", "default": 300},
    }
    required_if = [("state", "present", ["src"])]
    module = AnsibleModule(argument_spec=spec, required_if=required_if, supports_check_mode=True)
    run_module(module, lambda module: ensure(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
