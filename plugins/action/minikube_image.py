# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the progress of the module minikube_image."""

from __future__ import annotations

from ansible_collections.mlops.mlflow.plugins.plugin_utils._progress import ProgressAction


class ActionModule(ProgressAction):
    """Everything is in the module and in ProgressAction."""
