#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the state of a Minikube profile."""

from __future__ import annotations

DOCUMENTATION = r"""
module: minikube_info
short_description: Read the state of a Minikube profile
version_added: 0.1.0
description:
  - Returns what a Minikube profile is made of and whether it runs, and how to reach its nodes by SSH.
  - A missing program or profile is an answer, not an error.
extends_documentation_fragment:
  - mlops.mlflow.minikube
  - mlops.mlflow.minikube.actiongroup_minikube
attributes:
  check_mode:
    description: Can run in check mode and return what it does otherwise.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
options:
  docker_env:
    description: Whether to ask how a Docker client on the controller reaches the node's engine.
    type: bool
    default: false
  timeout:
    description: Seconds until a call of C(minikube) is ended and the task fails.
    type: int
    default: 60
seealso:
  - module: mlops.mlflow.minikube_cluster
  - plugin: mlops.mlflow.minikube
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Read the profile
  mlops.mlflow.minikube_info:
    profile: minikube
  register: minikube

- name: Say where the first node is
  ansible.builtin.debug:
    msg: "{{ minikube.nodes[0].ip }}"
  when: minikube.running
"""

RETURN = r"""
installed:
  description: Whether the program was found.
  returned: always
  type: bool
version:
  description: Version of Minikube, or null where it is not installed.
  returned: always
  type: str
  sample: v1.38.1
exists:
  description: Whether there is a profile of that name, in whatever state.
  returned: always
  type: bool
state:
  description:
    - V(absent), V(incomplete) (a profile without a machine, as an interrupted start leaves it), V(stopped), V(paused),
      V(running) or V(degraded) (some part does not run).
  returned: always
  type: str
running:
  description: Whether every node, kubelet, API server and the kubeconfig entry are as they should be.
  returned: always
  type: bool
status:
  description: The state of each node, in Minikube's words.
  returned: always
  type: list
  elements: dict
  sample: [{name: minikube, host: Running, kubelet: Running, apiserver: Running, kubeconfig: Configured}]
profile:
  description: Name of the profile.
  returned: always
  type: str
context:
  description: Name of the context in the kubeconfig, or null where there is no profile.
  returned: always
  type: str
driver:
  description: What the nodes run in, or null.
  returned: always
  type: str
  sample: docker
container_runtime:
  description: What runs the containers in the nodes, or null.
  returned: always
  type: str
  sample: docker
kubernetes_version:
  description: Version of Kubernetes, or null.
  returned: always
  type: str
  sample: v1.34.4
nodes:
  description: The nodes. The SSH address is null where the node cannot be connected to, and with the none driver.
  returned: always
  type: list
  elements: dict
  sample:
    - name: minikube
      ip: 192.168.49.2
      control_plane: true
      ssh: {host: 127.0.0.1, port: 32769, user: docker, private_key: /home/me/.minikube/machines/minikube/id_rsa}
docker_env:
  description: The C(DOCKER_*) variables for a Docker client, also as C(environment) of tasks. Empty if nothing runs.
  returned: when O(docker_env) is true
  type: dict
  sample: {DOCKER_HOST: 'tcp://192.168.49.2:2376', DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: /home/me/.minikube/certs}
config:
  description: Settings that the profile was made with. Sizes are in MiB; 0 stands for no limit. Empty without profile.
  returned: always
  type: dict
  sample: {cpus: 2, memory: 4096, disk_size: 20000, addons: [storage-provisioner], cni: '', base_image: null}
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import run_module
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import argument_spec, from_parameters
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_cluster import describe


def read(module: AnsibleModule) -> Mapping[str, Any]:
    """Describe what there is now."""
    minikube = from_parameters(module.params)
    snapshot = minikube.snapshot()
    result = {"changed": False, **describe(minikube, snapshot)}
    if module.params["docker_env"]:
        result["docker_env"] = minikube.docker_environment() if snapshot.running else {}
    return result


def main() -> None:
    """Entry point."""
    spec = {**argument_spec(timeout=60), "docker_env": {"type": "bool", "default": False}}
    run_module(AnsibleModule(argument_spec=spec, supports_check_mode=True), read)


if __name__ == "__main__":
    main()
