# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Minikube modules have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that the modules extend."""

    DOCUMENTATION = r"""
options:
  profile:
    description:
      - Name of the Minikube profile.
      - Two or more letters, digits and dashes. Minikube's own words (C(start), C(profile), ...) and names that end
        like a node's (C(m2), C(team-m02)) are refused.
    type: str
    default: minikube
  binary:
    description:
      - Name or path of the C(minikube) program. Version 1.34.0 or newer.
    type: str
    default: minikube
  home:
    description:
      - Folder that has, or is, the C(.minikube) folder with profiles, machines and downloads.
      - Defaults to the environment variable E(MINIKUBE_HOME), else to the home folder of the user.
    type: path
  kubeconfig:
    description:
      - The kubeconfig file that Minikube writes the cluster's context to.
      - Defaults to the first file of the environment variable E(KUBECONFIG), else to C(~/.kube/config).
    type: path
notes:
  - Runs on the Ansible controller, where Minikube's files are; use C(connection=local) or C(delegate_to=localhost).
author:
  - mlops.mlflow maintainers (@mlops)
"""

    ACTIONGROUP_MINIKUBE = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/mlops.mlflow.minikube) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - mlops.mlflow.minikube
"""
