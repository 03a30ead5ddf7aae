#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enable or disable an addon of a Minikube cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: minikube_addon
short_description: Enable or disable an addon of a Minikube cluster
version_added: 0.1.0
description:
  - Enables or disables an addon, with images and registries of one's own choice, and makes sure that it works.
  - Minikube says that an addon is enabled also where its images cannot be fetched. With O(wait) this module looks at
    the addon's Deployments, DaemonSets and ReplicationControllers and fails, with the state of the pods, where they do
    not become available.
extends_documentation_fragment:
  - mlops.mlflow.minikube
  - mlops.mlflow.minikube.actiongroup_minikube
attributes:
  check_mode:
    description: Can run in check mode and say what would change, also where the cluster is not there yet.
    support: full
  diff_mode:
    description: Shows what is enabled with which images and registries before and after.
    support: full
options:
  name:
    description: Name of the addon, as C(minikube addons list) has it.
    type: str
    required: true
  state:
    description: Whether the addon is enabled.
    type: str
    choices: [enabled, disabled]
    default: enabled
  images:
    description:
      - Images to use instead of the addon's own, by the names that C(minikube addons images) lists.
      - Without a registry, which O(registries) is for.
    type: dict
    default: {}
  registries:
    description: Registries to use instead of the addon's own, by the same names.
    type: dict
    default: {}
  wait:
    description: Wait until the addon's workloads are available.
    type: bool
    default: true
  timeout:
    description: Seconds to wait, and until a call of C(minikube) is ended and the task fails.
    type: int
    default: 420
seealso:
  - module: mlops.mlflow.minikube_cluster
"""

EXAMPLES = r"""
- name: Enable the ingress controller
  mlops.mlflow.minikube_addon:
    name: ingress

- name: Enable metrics from a mirror
  mlops.mlflow.minikube_addon:
    name: metrics-server
    images:
      MetricsServer: metrics-server/metrics-server:v0.9.0
    registries:
      MetricsServer: mirror.example.org
"""

RETURN = r"""
workloads:
  description: The addon's workloads, where it is enabled and they were looked at.
  returned: success
  type: list
  elements: dict
  sample: [{kind: Deployment, namespace: ingress-nginx, name: ingress-nginx-controller, available: true}]
pods:
  description: The addon's pods, with what they wait for.
  returned: when they do not become available
  type: list
  elements: str
  sample: ["ingress-nginx/ingress-nginx-controller-5d8 Pending (controller: ImagePullBackOff)"]
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import run_module
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import argument_spec, from_parameters
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_addon import Addons, Wanted


def work(module: AnsibleModule) -> Mapping[str, Any]:
    """Bring the addon to the state asked for."""
    parameters = module.params
    wanted = Wanted(
        name=parameters["name"],
        enabled=parameters["state"] == "enabled",
        images={key: str(value) for key, value in parameters["images"].items()},
        registries={key: str(value) for key, value in parameters["registries"].items()},
    )
    outcome = Addons(from_parameters(parameters)).ensure(wanted, wait=parameters["wait"], check_mode=module.check_mode)
    return {**outcome.difference.result(), "workloads": [workload.record() for workload in outcome.workloads]}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **argument_spec(timeout=420),
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["enabled", "disabled"], "default": "enabled"},
            "images": {"type": "dict", "default": {}},
            "registries": {"type": "dict", "default": {}},
            "wait": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    run_module(module, work)


if __name__ == "__main__":
    main()
