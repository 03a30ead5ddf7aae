#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of mlflow_experiment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_experiment
short_description: Keep an MLflow experiment
version_added: 0.1.0
description:
  - Makes, tags, deletes or restores an experiment on an MLflow tracking server.
author:
  - mlops.mlflow maintainers (@mlops)
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.keep
  - mlops.mlflow.mlflow.tags
options:
  name:
    description:
      - Name of the experiment.
    type: str
    required: true
  state:
    description:
      - V(present) makes it where there is none of that name. MLflow keeps the name of a deleted experiment, so that
        this fails where there is one.
      - V(restored) makes a deleted experiment active again, with its runs. It fails where there is none.
      - V(absent) deletes it and its runs, as the web UI does. C(mlflow gc) then removes them for good.
    type: str
    choices: [present, absent, restored]
    default: present
  artifact_location:
    description:
      - Where a new experiment keeps its artifacts, as a URI. By default the server decides.
      - MLflow cannot change it afterwards. It is an error where the experiment that is there has another one.
    type: str
"""

EXAMPLES = r"""
- name: Make the experiment
  mlops.mlflow.mlflow_experiment:
    tracking_uri: http://mlflow.local
    name: Anomaly Detection
    tags:
      team: research

- name: Get it back after it was deleted in the web UI
  mlops.mlflow.mlflow_experiment:
    tracking_uri: http://mlflow.local
    name: Anomaly Detection
    state: restored
"""

RETURN = r"""
experiment:
  description: The experiment as it is afterwards (in check mode, as it is); null where there is none.
  returned: success
  type: dict
  contains:
    id:
      description: MLflow's id of it.
      type: str
    name:
      description: Its name.
      type: str
    artifact_location:
      description: Where it keeps its artifacts.
      type: str
    lifecycle_stage:
      description: V(active) or V(deleted).
      type: str
    tags:
      description: All of its tags.
      type: dict
    creation_time:
      description: When it was made, in milliseconds since 1970.
      type: int
    last_update_time:
      description: When it was last changed, in milliseconds since 1970.
      type: int
  sample:
    id: "1"
    name: Anomaly Detection
    artifact_location: mlflow-artifacts:/1
    lifecycle_stage: active
    tags: {team: research}
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
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_experiment import ensure
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import argument_spec


def main() -> None:
    """Run the module."""
    spec = argument_spec() | {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent", "restored"], "default": "present"},
        "tags": {"type": "dict", "default": {}},
        "artifact_location": {"type": "str"},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    run_module(module, lambda module: ensure(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
