# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of the action plugins that speak to Kubernetes from the controller.

They are action plugins for their speed. Ansible's main process loads this file, and with it the Python client of
Kubernetes, which takes half a second; every task is a fork of that process and has it for nothing.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from ansible_collections.mlops.mlflow.plugins.plugin_utils._action import MlopsAction

with suppress(ImportError):  # told when a task needs it
    import_module("kubernetes")


class KubernetesAction(MlopsAction):
    """An action in a process that has the client already."""
