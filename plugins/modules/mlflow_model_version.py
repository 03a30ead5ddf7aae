#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of mlflow_model_version."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_model_version
short_description: Keep a version of a registered model
version_added: 0.1.0
description:
  - Makes, describes, tags or removes a version of a registered model on an MLflow tracking server, and has aliases
    point to it.
  - Which version is said by exactly one of O(version), O(alias) and O(source).
author:
  - mlops.mlflow maintainers (@mlops)
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.keep
  - mlops.mlflow.mlflow.tags
options:
  name:
    description:
      - Name of the registered model. It has to exist; M(mlops.mlflow.mlflow_registered_model) makes it.
    type: str
    required: true
  version:
    description:
      - Number of the version. It is an error where there is none of that number, as MLflow numbers them itself.
    type: int
  alias:
    description:
      - An alias that points to the version. It is an error where the model has no such alias.
    type: str
  source:
    description:
      - Where the version's files are, as a URI, for example V(models:/m-0123456789abcdef) for a logged model,
        V(runs:/RUN_ID/model), or V(models:/NAME/3) for another version.
      - Where no version of the model has this very source, it is made. Where several have it, the latest is meant.
    type: str
  run_id:
    description:
      - The run that a new version comes from. MLflow wants it where O(source) is in the server's artifact store; for
        V(runs:/) and V(models:/) it is known.
      - MLflow cannot change it afterwards, so that it is not looked at where there is such a version.
    type: str
  state:
    description:
      - V(present) makes the version where O(source) says so, and waits until MLflow calls it ready.
      - V(absent) removes it and its aliases for good. MLflow has no way to get it back; the run and artifacts that it
        came from stay. It is an error where O(source) is that of several versions.
    type: str
    choices: [present, absent]
    default: present
  description:
    description:
      - What the web UI shows for the version; V("") for none. By default it is left alone.
    type: str
  aliases:
    description:
      - Aliases that point to this version. One that points to another version is moved here. Others are left alone.
    type: list
    elements: str
    default: []
  aliases_absent:
    description:
      - Aliases that do not point to this version. One that points to another version is left alone.
    type: list
    elements: str
    default: []
  ready_timeout:
    description:
      - Seconds to wait until the version is ready.
    type: float
    default: 300
notes:
  - In check mode a registered model that is missing is no error with O(source), as a task before may be what makes it.
seealso:
  - module: mlops.mlflow.mlflow_registered_model
"""

EXAMPLES = r"""
- name: Register the model of a run, and make it the champion
  mlops.mlflow.mlflow_model_version:
    tracking_uri: http://mlflow.local
    name: fraud-detector
    source: runs:/4b0e3fd5c1b94d5d8e7a1f0a6a1b2c3d/model
    aliases: [champion]

- name: Promote the challenger
  mlops.mlflow.mlflow_model_version:
    tracking_uri: http://mlflow.local
    name: fraud-detector
    alias: challenger
    aliases: [champion]

- name: Retire version 3
  mlops.mlflow.mlflow_model_version:
    tracking_uri: http://mlflow.local
    name: fraud-detector
    version: 3
    tags:
      retired: "yes"
    aliases_absent: [champion, challenger]
"""

RETURN = r"""
model_version:
  description: The version as it is afterwards (in check mode, as it is); null where there is none.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the registered model.
      type: str
    version:
      description: Its number.
      type: int
    description:
      description: Its description.
      type: str
    source:
      description: Where its files are.
      type: str
    run_id:
      description: The run that it comes from; null where MLflow knows none.
      type: str
    status:
      description: V(READY), or in check mode perhaps V(PENDING_REGISTRATION).
      type: str
    status_message:
      description: What MLflow says of the status.
      type: str
    tags:
      description: All of its tags.
      type: dict
    aliases:
      description: All aliases that point to it.
      type: list
      elements: str
    creation_time:
      description: When it was made, in milliseconds since 1970.
      type: int
    last_update_time:
      description: When it was last changed, in milliseconds since 1970.
      type: int
  sample:
    name: fraud-detector
    version: 3
    description: ""
    source: models:/m-2a1b6f0e5d4c4b3a9f8e7d6c5b4a3928
    run_id: 4b0e3fd5c1b94d5d8e7a1f0a6a1b2c3d
    status: READY
    status_message: ""
    tags: {}
    aliases: [champion]
    creation_time: 1795491736578
    last_update_time: 1795491736578
error_code:
  description: MLflow's own code of an error.
  returned: when MLflow refused
  type: str
  sample: INVALID_PARAMETER_VALUE
http_status:
  description: HTTP status of the refusal.
  returned: when a request was refused
  type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import run_module
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_entity import ensure
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_model_version import KeptVersion
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import argument_spec


def main() -> None:
    """Run the module."""
    which = ["version", "alias", "source"]
    spec = argument_spec() | {
        "name": {"type": "str", "required": True},
        "version": {"type": "int"},
        "alias": {"type": "str"},
        "source": {"type": "str"},
        "run_id": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "description": {"type": "str"},
        "tags": {"type": "dict", "default": {}},
        "aliases": {"type": "list", "elements": "str", "default": []},
        "aliases_absent": {"type": "list", "elements": "str", "default": []},
        "ready_timeout": {"type": "float", "default": 300},
    }
    module = AnsibleModule(
        argument_spec=spec,
        mutually_exclusive=[which],
        required_one_of=[which],
        required_by={"run_id": "source"},
        supports_check_mode=True,
    )
    run_module(module, lambda module: ensure(KeptVersion, "model_version", module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
