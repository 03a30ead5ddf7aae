# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applies a component's objects by one call of kubernetes.core.k8s, and prunes what the component no longer wants."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow.plugins.module_utils import _kubernetes_apply as objects


class ActionModule(ActionBase):
    """Adds to kubernetes.core.k8s what it has not: diffs of a list, pruning, and patience with admission webhooks."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The task's result, by Ansible's contract for action plugins."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        parameters = self.validate_argument_spec(objects.ARGUMENT_SPEC)[1]
        definitions, cluster = parameters["definitions"], parameters["cluster"]
        result |= {"changed": False, "diff": []}

        if self._task.check_mode and not objects.namespace_known(cluster, parameters["namespace"]):
            diffs = [objects.creation_diff(definition) for definition in definitions]
            return result | {"changed": bool(definitions), "diff": diffs}

        if definitions:
            answer = self._apply(parameters, task_vars)
            if answer.get("failed"):
                return result | answer
            result["changed"] = answer["changed"]
            result["diff"] = objects.change_diffs(answer, definitions)

        unwanted = objects.unwanted(cluster, parameters["component"], definitions)
        if unwanted:
            answer = self._k8s(parameters, task_vars, definition=unwanted, state="absent", wait=True, wait_timeout=120)
            if answer.get("failed"):
                return result | answer
            result["changed"] = result["changed"] or answer["changed"]
            for each in unwanted:
                name = objects.identity(each)
                result["diff"].append({"before_header": name, "after_header": name, "before": each, "after": {}})
        return result

    def _apply(self, parameters: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Apply the definitions; an ingress controller that starts refuses Ingresses by its webhook for a while."""
        timeout = parameters["wait_timeout"]
        for attempt in range(1, objects.WEBHOOK_RETRIES + 1):
            answer = self._k8s(
                parameters,
                task_vars,
                definition=parameters["definitions"],
                apply=True,
                server_side_apply={"field_manager": objects.FIELD_MANAGER, "force_conflicts": True},
                wait=timeout > 0,
                wait_sleep=1,
                wait_timeout=max(timeout, 1),
            )
            if "failed calling webhook" not in str(answer.get("msg", "")):
                break
            self._display.display(
                f"  An admission webhook does not answer yet; attempt {attempt} of {objects.WEBHOOK_RETRIES},"
                f" again in {objects.WEBHOOK_PAUSE} s"
            )
            time.sleep(objects.WEBHOOK_PAUSE)
        return answer

    def _k8s(self, parameters: dict[str, Any], task_vars: dict[str, Any] | None, **arguments: Any) -> dict[str, Any]:
        connection = {"kubeconfig": parameters["kubeconfig"], "context": parameters["context"]}
        answer: dict[str, Any] = self._execute_module(
            module_name="kubernetes.core.k8s",
            module_args={**connection, **arguments, "hidden_fields": objects.HIDDEN_FIELDS},
            task_vars=task_vars,
        )
        answer.pop("invocation", None)
        return answer
