#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of the action plugin kubernetes_apply."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_apply
short_description: Apply a component's objects in one call and prune what it no longer wants
version_added: 0.1.0
description:
  - Applies a list of objects by server-side apply as the field manager C(mlops.mlflow), and waits until their
    Deployments are rolled out.
  - Removes the component's objects that are in the cluster and no longer in the list, but never a Namespace, a
    PersistentVolume or a PersistentVolumeClaim, which hold data.
  - It is an action plugin, which makes it several times faster than a task of M(kubernetes.core.k8s), and adds a diff
    for each object of a list, the pruning, a check mode that works before the namespace or the cluster exists, and
    patience with an ingress controller that is still starting and refuses Ingresses through its admission webhook.
author:
  - mlops.mlflow maintainers (@mlops)
requirements:
  - kubernetes (Python package) >= 31
options:
  kubeconfig:
    description: The kubeconfig file.
    type: path
  context:
    description: Name of the context in it.
    type: str
    required: true
  cluster:
    description: What M(mlops.mlflow.cluster_info) returned for the instance.
    type: dict
    required: true
  namespace:
    description: Namespace of the instance.
    type: str
    required: true
  component:
    description: Value of the objects' label C(app.kubernetes.io/component).
    type: str
    required: true
  definitions:
    description: The objects that the component wants, all of them.
    type: list
    elements: dict
    required: true
  wait_timeout:
    description: Seconds to wait until the Deployments are rolled out; V(0) does not wait.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: By the server's dry run; where the namespace or the cluster is missing, every object would be new.
  diff_mode:
    support: full
    description: One diff for each object that changes, without the content of Secrets.
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

- name: Apply the storage
  mlops.mlflow.kubernetes_apply:
    context: minikube
    cluster: "{{ cluster }}"
    namespace: mlflow
    component: storage
    definitions: "{{ storage }}"
"""

RETURN = r"""
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes_apply import ARGUMENT_SPEC


def main() -> None:
    """Only reached where the action plugin of the same name was not found."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="kubernetes_apply is an action plugin: call it by its full name.")


if __name__ == "__main__":
    main()
