#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of mlflow_registered_model."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_registered_model
short_description: Keep a registered model
version_added: 0.1.0
description:
  - Makes, describes, tags or removes a registered model on an MLflow tracking server.
author:
  - mlops.mlflow maintainers (@mlops)
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.keep
  - mlops.mlflow.mlflow.tags
options:
  name:
    description:
      - Name of the registered model.
    type: str
    required: true
  state:
    description:
      - V(present) makes it where there is none of that name. Its versions are kept by
        M(mlops.mlflow.mlflow_model_version).
      - V(absent) removes it for good, with all of its versions and aliases. MLflow has no way to get them back; the
        runs and artifacts that they came from stay.
    type: str
    choices: [present, absent]
    default: present
  description:
    description:
      - What the web UI shows below the name; V("") for none. By default it is left alone.
    type: str
seealso:
  - module: mlops.mlflow.mlflow_model_version
"""

EXAMPLES = r"""
- name: Make the registered model
  mlops.mlflow.mlflow_registered_model:
    tracking_uri: http://mlflow.local
    name: fraud-detector
    description: Finds frauds among card payments
    tags:
      team: research

- name: Remove one for good, with its versions
  mlops.mlflow.mlflow_registered_model:
    tracking_uri: http://mlflow.local
    name: first-try
    state: absent
"""

RETURN = r"""
registered_model:
  description: The registered model as it is afterwards (in check mode, as it is); null where there is none.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    description:
      description: Its description.
      type: str
    tags:
      description: All of its tags.
      type: dict
    aliases:
      description: The number of the version that each of its aliases points to.
      type: dict
    latest_version:
      description: The highest number of its versions; null where it has none.
      type: int
    creation_time:
      description: When it was made, in milliseconds since 1970.
      type: int
    last_update_time:
      description: When it was last changed, in milliseconds since 1970.
      type: int
  sample:
    name: fraud-detector
    description: Finds frauds among card payments
    tags: {team: research}
    aliases: {champion: 2}
    latest_version: 3
    creation_time: 1795491736578
    last_update_time: 1795491736578
error_code:
  description: MLflow's own code of an error.
  returned: when MLflow refused
  type: str
  sample: PERMISSION_DENIED
http_status:
  description: HTTP status of the refusal.
  returned: when a request was refused
  type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import run_module
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_entity import ensure
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_registered_model import KeptModel
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import argument_spec


def main() -> None:
    """Run the module."""
    spec = argument_spec() | {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "description": {"type": "str"},
        "tags": {"type": "dict", "default": {}},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    run_module(
        module, lambda module: ensure(KeptModel, "registered_model", module.params, check_mode=module.check_mode)
    )


if __name__ == "__main__":
    main()
