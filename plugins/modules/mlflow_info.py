#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of mlflow_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_info
short_description: Read what an MLflow tracking server is and holds
version_added: 0.1.0
description:
  - Reads the version, the capabilities, the experiments and the registered models of an MLflow tracking server.
author:
  - mlops.mlflow maintainers (@mlops)
extends_documentation_fragment:
  - mlops.mlflow.mlflow
attributes:
  check_mode:
    description: It only reads.
    support: full
options:
  view:
    description:
      - Which experiments to list.
    type: str
    choices: [active, deleted, all]
    default: active
  limit:
    description:
      - List at most so many experiments and so many registered models.
    type: int
    default: 1000
"""

EXAMPLES = r"""
- name: Read what is there
  mlops.mlflow.mlflow_info:
    tracking_uri: http://mlflow.local
  register: mlflow

- name: Show the names of the experiments
  ansible.builtin.debug:
    msg: "{{ mlflow.experiments | map(attribute='name') }}"
"""

RETURN = r"""
version:
  description: MLflow's version.
  returned: success
  type: str
  sample: 3.17.2
server:
  description: What the server says it can do, as it says it; empty for servers that are too old to say.
  returned: success
  type: dict
  sample: {store_type: SqlStore, workspaces_enabled: false}
experiments:
  description: The experiments.
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
    artifact_location:
      description: Where it keeps its artifacts.
      type: str
    lifecycle_stage:
      description: V(active) or V(deleted).
      type: str
    tags:
      description: Its tags.
      type: dict
    creation_time:
      description: When it was made, in milliseconds since 1970.
      type: int
    last_update_time:
      description: When it was last changed, in milliseconds since 1970.
      type: int
registered_models:
  description: The registered models as MLflow returns them. Prompts are not among them.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    latest_versions:
      description: Its latest version of each stage.
      type: list
      elements: dict
    aliases:
      description: Its aliases.
      type: list
      elements: dict
counts:
  description: How many of them were listed.
  returned: success
  type: dict
  sample: {experiments: 2, registered_models: 0}
truncated:
  description: The lists that O(limit) cut off.
  returned: success
  type: list
  elements: str
error_code:
  description: MLflow's own code of an error.
  returned: when MLflow refused
  type: str
http_status:
  description: HTTP status of the refusal.
  returned: when a request was refused
  type: int
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import run_module
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import VIEWS, Client
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_entity import first
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import argument_spec, server_of


def read(module: AnsibleModule) -> dict[str, Any]:
    """Read what the server holds."""
    parameters = module.params
    limit, view = parameters["limit"], VIEWS[parameters["view"]]
    with Client(server_of(parameters), parameters["timeout"]) as client:
        found = {
            "experiments": first(limit, lambda n: [item.result() for item in client.experiments(view=view, limit=n)]),
            "registered_models": first(limit, lambda n: client.models(limit=n)),
        }
        lists = {name: items for name, (items, more) in found.items()}
        return {
            "changed": False,
            "version": client.version(),
            "server": client.server_info(),
            "counts": {name: len(items) for name, items in lists.items()},
            "truncated": [name for name, (items, more) in found.items() if more],
            **lists,
        }


def main() -> None:
    """Run the module."""
    spec = argument_spec() | {
        "view": {"type": "str", "choices": ["active", "deleted", "all"], "default": "active"},
        "limit": {"type": "int", "default": 1000},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    run_module(module, read)


if __name__ == "__main__":
    main()
