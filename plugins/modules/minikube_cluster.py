#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a Minikube cluster to a state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: minikube_cluster
short_description: Start, stop, pause or delete a Minikube cluster
version_added: 0.1.0
description:
  - Brings a Minikube profile to a state and makes sure that it got there.
  - A cluster that runs with the settings asked for is left alone.
  - Minikube only warns about settings that an existing profile cannot take any more, and ignores them. This module
    compares first and fails, before anything changes, with a list of them.
  - The steps of a start are shown as they happen.
extends_documentation_fragment:
  - mlops.mlflow.minikube
  - mlops.mlflow.minikube.actiongroup_minikube
attributes:
  check_mode:
    description: Can run in check mode and say what would change, also where Minikube is not installed yet.
    support: full
  diff_mode:
    description: Shows the state and the settings before and after.
    support: full
options:
  state:
    description:
      - V(started) makes the profile where it is missing, starts it where it is stopped or a start was interrupted,
        and unpauses it where it is paused.
      - V(stopped) leaves a missing profile alone.
      - V(paused) needs a running cluster.
      - V(absent) deletes the profile with all its data.
    type: str
    choices: [started, stopped, paused, absent]
    default: started
  driver:
    description:
      - What the nodes run in, such as V(docker), V(kvm2), V(ssh) or V(none).
      - Without it Minikube picks one, and after a failed start deletes the profile and tries another.
      - Cannot change.
    type: str
  kubernetes_version:
    description:
      - Version of Kubernetes, such as V(v1.34.4), V(1.34), V(stable) or V(latest). 1.30 or newer.
      - A newer one than the profile has is an upgrade; an older one is refused.
    type: str
  container_runtime:
    description: V(docker), V(containerd) or V(cri-o). Minikube's default depends on its version. Cannot change.
    type: str
  cpus:
    description: Number of CPUs, V(max), or V(no-limit) (docker and podman drivers). Cannot change.
    type: str
  memory:
    description:
      - Memory of each node. A number is MiB; with a unit V(4g), V(4096mb); V(max) or V(no-limit) (docker and podman
        drivers). Cannot change.
    type: str
  disk_size:
    description: Disk of each node (VM drivers), like O(memory). Cannot change.
    type: str
  nodes:
    description: Number of nodes. Cannot change by this module.
    type: int
  wait:
    description: What to wait for when starting. V(all), V(none), or a list of Minikube's components.
    type: list
    elements: str
    default: [all]
  start_options:
    description:
      - Any other flag of C(minikube start), by its long name without dashes. A list gives the flag once for each item.
      - Flags whose values the profile keeps are compared (C(extra-config), C(feature-gates), C(apiserver-names),
        C(cni), ...) and start the cluster again where they differ, or are refused where they cannot change
        (C(static-ip), C(subnet), C(network), C(ports), C(insecure-registry), C(registry-mirror), ...).
        All others only matter when the cluster is started for another reason.
    type: dict
    default: {}
  timeout:
    description: Seconds until a call of C(minikube) is ended, with all its processes, and the task fails.
    type: int
    default: 1200
  progress_file:
    description: File that the action plugin of this module shows new lines of while the module works. Not for users.
    type: path
seealso:
  - module: mlops.mlflow.minikube_info
  - name: Minikube's start command
    description: The flags for O(start_options).
    link: https://minikube.sigs.k8s.io/docs/commands/start/
"""

EXAMPLES = r"""
- name: Start a cluster in Docker
  mlops.mlflow.minikube_cluster:
    driver: docker
    container_runtime: docker
    kubernetes_version: v1.34.4
    cpus: 2
    memory: 4g

- name: Start a cluster as root, with a registry mirror
  mlops.mlflow.minikube_cluster:
    driver: docker
    start_options:
      force: true
      registry-mirror: [https://mirror.example.org]
      extra-config: [kubelet.max-pods=50]

- name: Delete the cluster with all its data
  mlops.mlflow.minikube_cluster:
    state: absent
"""

RETURN = r"""
installed:
  description: Whether the program was found.
  returned: success
  type: bool
version:
  description: Version of Minikube, or null where it is not installed.
  returned: success
  type: str
  sample: v1.38.1
exists:
  description: Whether there is a profile of that name, in whatever state.
  returned: success
  type: bool
state:
  description: V(absent), V(incomplete), V(stopped), V(paused), V(running) or V(degraded).
  returned: success
  type: str
running:
  description: Whether every node, kubelet, API server and the kubeconfig entry are as they should be.
  returned: success
  type: bool
status:
  description: The state of each node, in Minikube's words.
  returned: success
  type: list
  elements: dict
  sample: [{name: minikube, host: Running, kubelet: Running, apiserver: Running, kubeconfig: Configured}]
profile:
  description: Name of the profile.
  returned: success
  type: str
context:
  description: Name of the context in the kubeconfig, or null where there is no profile.
  returned: success
  type: str
driver:
  description: What the nodes run in, or null.
  returned: success
  type: str
  sample: docker
container_runtime:
  description: What runs the containers in the nodes, or null.
  returned: success
  type: str
  sample: docker
kubernetes_version:
  description: Version of Kubernetes, or null.
  returned: success
  type: str
  sample: v1.34.4
nodes:
  description: The nodes, with their SSH address where they can be connected to.
  returned: success
  type: list
  elements: dict
  sample:
    - name: minikube
      ip: 192.168.49.2
      control_plane: true
      ssh: {host: 127.0.0.1, port: 32769, user: docker, private_key: /home/me/.minikube/machines/minikube/id_rsa}
config:
  description: Settings that the profile was made with. Sizes are in MiB; 0 stands for no limit. Empty without profile.
  returned: success
  type: dict
  sample: {cpus: 2, memory: 4096, disk_size: 20000, addons: [storage-provisioner], cni: '', base_image: null}
actions:
  description: Commands of Minikube that were called to get there, in order.
  returned: success
  type: list
  elements: str
  sample: [start]
steps:
  description: The steps of the start, in Minikube's words.
  returned: success
  type: list
  elements: dict
  sample: [{name: Booting control plane, message: Booting up control plane ...}]
immutable:
  description: The settings that differ and cannot change, before and after.
  returned: when such settings were asked for
  type: dict
  sample: {before: {memory: 4096}, after: {memory: 8192}}
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import run_module
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import (
    Progress,
    argument_spec,
    from_parameters,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_cluster import Wanted, describe, ensure

SETTINGS: dict[str, dict[str, Any]] = {
    "driver": {"type": "str"},
    "kubernetes_version": {"type": "str"},
    "container_runtime": {"type": "str"},
    "cpus": {"type": "str"},
    "memory": {"type": "str"},
    "disk_size": {"type": "str"},
    "nodes": {"type": "int"},
    "wait": {"type": "list", "elements": "str", "default": ["all"]},
    "start_options": {"type": "dict", "default": {}},
}


def work(module: AnsibleModule) -> Mapping[str, Any]:
    """Bring the profile to the state asked for and describe what there is then."""
    parameters = module.params
    minikube = from_parameters(parameters)
    # An empty text is a variable that somebody left empty: nothing is asked for.
    settings: dict[str, Any] = {name: None if parameters[name] == "" else parameters[name] for name in SETTINGS}
    wanted = Wanted(**settings)
    progress = Progress(parameters["progress_file"])
    outcome = ensure(minikube, parameters["state"], wanted, check_mode=module.check_mode, show=progress)
    for warning in outcome.warnings:
        module.warn(warning)
    return {
        **describe(minikube, outcome.snapshot),
        **outcome.difference.result(),
        "actions": outcome.actions,
        "steps": outcome.steps,
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **argument_spec(timeout=1200),
            **SETTINGS,
            "state": {"type": "str", "choices": ["started", "stopped", "paused", "absent"], "default": "started"},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    run_module(module, work)


if __name__ == "__main__":
    main()
