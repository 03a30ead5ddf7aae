#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of mlflow_run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_run
short_description: Keep a run
version_added: 0.1.0
description:
  - Makes, ends, tags or deletes a run on an MLflow tracking server, for example the parent of a parameter sweep.
  - MLflow lets any number of runs have one name. The run that is meant is the newest active one of that name.
author:
  - mlops.mlflow maintainers (@mlops)
extends_documentation_fragment:
  - mlops.mlflow.mlflow
  - mlops.mlflow.mlflow.keep
  - mlops.mlflow.mlflow.tags
options:
  experiment:
    description:
      - Name of the experiment. It has to exist; M(mlops.mlflow.mlflow_experiment) makes it.
    type: str
    required: true
  name:
    description:
      - Name of the run.
    type: str
    required: true
  parent:
    description:
      - MLflow's id of the run that it belongs to. With it, only the child runs of that run are meant, and a new run
        becomes one of them.
    type: str
  state:
    description:
      - V(present) makes it where there is none.
      - V(absent) deletes all active runs of that name, as the web UI does. Their child runs stay. C(mlflow gc) then
        removes them for good.
    type: str
    choices: [present, absent]
    default: present
  status:
    description:
      - Its status; with any but V(RUNNING) it ends when it is set. By default it is left alone, and a new run is
        V(RUNNING).
    type: str
    choices: [RUNNING, FINISHED, FAILED, KILLED]
notes:
  - In check mode an experiment that is missing is no error, as a task before may be what makes it.
seealso:
  - module: mlops.mlflow.mlflow_experiment
  - module: mlops.mlflow.mlflow_run_info
"""

EXAMPLES = r"""
- name: Open the run that the others of a sweep belong to
  mlops.mlflow.mlflow_run:
    tracking_uri: http://mlflow.local
    experiment: Anomaly Detection
    name: sweep
    status: RUNNING
    tags:
      settings: 12
  register: sweep

- name: Close it
  mlops.mlflow.mlflow_run:
    tracking_uri: http://mlflow.local
    experiment: Anomaly Detection
    name: sweep
    status: FINISHED
"""

RETURN = r"""
run:
  description: The run as it is afterwards (in check mode, as it is); null where there is none.
  returned: success
  type: dict
  contains:
    id:
      description: MLflow's id of it.
      type: str
    name:
      description: Its name.
      type: str
    experiment_id:
      description: MLflow's id of its experiment.
      type: str
    status:
      description: V(RUNNING), V(SCHEDULED), V(FINISHED), V(FAILED) or V(KILLED).
      type: str
    lifecycle_stage:
      description: V(active) or V(deleted).
      type: str
    start_time:
      description: When it began, in milliseconds since 1970.
      type: int
    end_time:
      description: When it ended, in milliseconds since 1970; null where it did not.
      type: int
    artifact_uri:
      description: Where it keeps its artifacts.
      type: str
    parent:
      description: The id of the run that it belongs to; null for none.
      type: str
    params:
      description: Its parameters, as text.
      type: dict
    metrics:
      description: The latest value of each of its metrics; V(NaN), V(Infinity) and V(-Infinity) are text.
      type: dict
    tags:
      description: All of its tags.
      type: dict
    models:
      description: The logged models that it made, each with C(id) and C(step); none on servers without them.
      type: list
      elements: dict
    datasets:
      description: The datasets that it read, each with C(name) and C(digest).
      type: list
      elements: dict
  sample:
    id: 4b0e3fd5c1b94d5d8e7a1f0a6a1b2c3d
    name: xgboost model
    experiment_id: "1"
    status: FINISHED
    lifecycle_stage: active
    start_time: 1795491736578
    end_time: 1795491746578
    artifact_uri: mlflow-artifacts:/1/4b0e3fd5c1b94d5d8e7a1f0a6a1b2c3d/artifacts
    parent: null
    params: {max_depth: "3"}
    metrics: {average_precision: 0.81}
    tags: {mlflow.runName: xgboost model}
    models: [{id: m-2a1b6f0e5d4c4b3a9f8e7d6c5b4a3928, step: 0}]
    datasets: [{name: creditcard.csv, digest: 2aa51a1c}]
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
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_run import KeptRun
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import argument_spec


def main() -> None:
    """Run the module."""
    spec = argument_spec() | {
        "experiment": {"type": "str", "required": True},
        "name": {"type": "str", "required": True},
        "parent": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "status": {"type": "str", "choices": ["RUNNING", "FINISHED", "FAILED", "KILLED"]},
        "tags": {"type": "dict", "default": {}},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    run_module(module, lambda module: ensure(KeptRun, "run", module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
