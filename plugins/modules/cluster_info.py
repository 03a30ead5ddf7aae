#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of the action plugin cluster_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: What a Kubernetes cluster is and what it holds of an MLflow instance
version_added: 0.1.0
description:
  - Reads the version, nodes, ingress classes and taken node ports of a cluster, and lists the objects of an instance.
  - Reads only the metadata of the objects, never the content of Secrets.
  - It is an action plugin and runs on the controller.
author:
  - mlops.mlflow maintainers (@mlops)
requirements:
  - kubernetes (Python package) >= 31
options:
  kubeconfig:
    description:
      - The kubeconfig file, or several of them with C(:) between them.
      - Defaults to the environment variable E(KUBECONFIG), else to C(~/.kube/config).
    type: path
  context:
    description:
      - Name of the context in it. By default the current one; better name it, as other programs change that.
    type: str
  instance:
    description:
      - Value of the label C(app.kubernetes.io/instance) of the objects to list.
    type: str
    default: mlflow
  ignore_unreachable:
    description:
      - Whether a missing kubeconfig, a missing context and a server that does not answer give RV(reachable=false)
        instead of a failure.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: It changes nothing.
  platform:
    support: full
    description: The controller.
    platforms: posix
"""

EXAMPLES = r"""
- name: Ask the cluster
  mlops.mlflow.cluster_info:
    context: minikube
  register: cluster

- name: Tell the node's address
  ansible.builtin.debug:
    msg: "{{ cluster.nodes[0].addresses[0] }}"
"""

RETURN = r"""
reachable:
  description: Whether the API server answered.
  returned: success
  type: bool
reason:
  description: Why it did not.
  returned: success
  type: str
context:
  description: The context that was used.
  returned: success
  type: str
server:
  description: The API server's URL.
  returned: success
  type: str
version:
  description: The version of Kubernetes.
  returned: success
  type: str
  sample: v1.34.4
nodes:
  description: The nodes.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The node's name.
      type: str
    addresses:
      description: Its IP addresses, internal ones first.
      type: list
      elements: str
    ready:
      description: Whether it is ready.
      type: bool
    hostname_label:
      description: Value of its label C(kubernetes.io/hostname), which node affinity uses.
      type: str
ingress_classes:
  description: The ingress classes.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the class.
      type: str
    controller:
      description: Its controller, such as C(k8s.io/ingress-nginx).
      type: str
    default:
      description: Whether an Ingress without a class gets this one.
      type: bool
node_ports:
  description: The Service (namespace/name) that has each taken node port. The ports are text.
  returned: success
  type: dict
  sample: {"30080": mlflow/mlflow-srvc}
objects:
  description: The objects of the instance that this collection made.
  returned: success
  type: list
  elements: dict
  contains:
    apiVersion:
      description: API version that was asked.
      type: str
    kind:
      description: Kind of the object.
      type: str
    name:
      description: Its name.
      type: str
    namespace:
      description: Its namespace, empty for objects of the cluster.
      type: str
    component:
      description: Value of its label C(app.kubernetes.io/component), empty where it has none.
      type: str
mlflow_version:
  description: The MLflow version of the tracking server's Deployment; empty where there is none.
  returned: success
  type: str
endpoints:
  description: The addresses under which the instance is published outside the cluster.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: C(service) or C(ingress).
      type: str
    url:
      description: The URL.
      type: str
    address:
      description: The IP address to connect to, for an Ingress its controller's. A load balancer of a Service has none.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._cluster_info import ARGUMENT_SPEC


def main() -> None:
    """Only reached where the action plugin of the same name was not found."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="cluster_info is an action plugin: call it by its full name, mlops.mlflow.cluster_info.")


if __name__ == "__main__":
    main()
