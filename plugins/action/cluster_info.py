# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what the roles need to know of a Kubernetes cluster."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._cluster_info import ARGUMENT_SPEC, cluster_info
from ansible_collections.mlops.mlflow.plugins.plugin_utils._kubernetes import KubernetesAction


class ActionModule(KubernetesAction):
    """Everything is in module_utils."""

    argument_spec = ARGUMENT_SPEC

    def work(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Ask the cluster."""
        return {"changed": False} | cluster_info(parameters)
