#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of mlflow_run_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_run_info
short_description: Read runs
version_added: 0.1.0
description:
  - Reads one run, or searches those of an experiment, on an MLflow tracking server.
author:
  - mlops.mlflow maintainers (@mlops)
extends_documentation_fragment:
  - mlops.mlflow.mlflow
attributes:
  check_mode:
    description: It only reads.
    support: full
options:
  run_id:
    description:
      - MLflow's id of the run to read, active or deleted. It is an error where there is none.
    type: str
  experiment:
    description:
      - Name of the experiment to search. Where there is none of that name, no runs are found.
    type: str
  filter:
    description:
      - Which runs to list, in MLflow's search language, for example V(metrics.accuracy > 0.9 and params.depth = '3').
        By default all of them.
    type: str
  order_by:
    description:
      - In which order to list them, for example V(metrics.accuracy DESC). By default the newest come first.
    type: list
    elements: str
    default: []
  parent:
    description:
      - List only the child runs of the run of this id.
    type: str
  view:
    description:
      - Which runs to search.
    type: str
    choices: [active, deleted, all]
    default: active
  limit:
    description:
      - List at most so many.
    type: int
    default: 1000
seealso:
  - name: Search runs
    description: MLflow's search language.
    link: https://mlflow.org/docs/latest/ml/search/search-runs/
"""

EXAMPLES = r"""
- name: Find the best run
  mlops.mlflow.mlflow_run_info:
    tracking_uri: http://mlflow.local
    experiment: Anomaly Detection
    filter: attributes.status = 'FINISHED'
    order_by: [metrics.average_precision DESC]
    limit: 1
  register: best

- name: Show its parameters
  ansible.builtin.debug:
    msg: "{{ best.runs[0].params }}"

- name: Read the runs of a parameter sweep
  mlops.mlflow.mlflow_run_info:
    tracking_uri: http://mlflow.local
    experiment: Anomaly Detection
    parent: 4b0e3fd5c1b94d5d8e7a1f0a6a1b2c3d
"""

RETURN = r"""
runs:
  description: The runs.
  returned: success
  type: list
  elements: dict
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
  - id: 4b0e3fd5c1b94d5d8e7a1f0a6a1b2c3d
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
truncated:
  description: Whether O(limit) cut the list off.
  returned: success
  type: bool
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
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_run import read
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import argument_spec


def main() -> None:
    """Run the module."""
    spec = argument_spec() | {
        "run_id": {"type": "str"},
        "experiment": {"type": "str"},
        "filter": {"type": "str"},
        "order_by": {"type": "list", "elements": "str", "default": []},
        "parent": {"type": "str"},
        "view": {"type": "str", "choices": ["active", "deleted", "all"], "default": "active"},
        "limit": {"type": "int", "default": 1000},
    }
    module = AnsibleModule(
        argument_spec=spec,
        mutually_exclusive=[["run_id", "experiment"]],
        required_one_of=[["run_id", "experiment"]],
        required_by={"filter": "experiment", "parent": "experiment"},
        supports_check_mode=True,
    )
    run_module(module, lambda module: read(module.params))


if __name__ == "__main__":
    main()
