# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod of a Job says of itself: what it does, why it failed, what it logs, what it answers.

Contracts: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and, for the termination message,
https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

INDEX = "batch.kubernetes.io/job-completion-index"
STARTING = ("ContainerCreating", "PodInitializing")
UNABLE = ("StartError", "ContainerCannotRun")
LINES_KEPT = 15


def pod_index(pod: Mapping[str, Any]) -> int:
    """The pod's index in its Job; 0 where the Job has none."""
    return int((pod["metadata"].get("annotations") or {}).get(INDEX, 0))


def containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The states of the pod's containers, in the order in which they start."""
    status = pod["status"]
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def speaker(pod: Mapping[str, Any]) -> dict[str, Any] | None:
    """The container whose log and message tell most: the one that failed, else the first of the pod's own."""
    if pod["status"]["phase"] == "Failed":
        for each in containers(pod):
            if each["state"].get("terminated", {}).get("exitCode"):
                return each
    first = pod["spec"]["containers"][0]["name"]
    return next((each for each in containers(pod) if each["name"] == first), None)


def ended(pod: Mapping[str, Any]) -> dict[str, Any]:
    """How the speaker ended; empty where it did not."""
    speaks = speaker(pod)
    return dict(speaks["state"].get("terminated", {})) if speaks else {}


def reason(pod: Mapping[str, Any]) -> str:
    """Why a pod failed, or what it was doing when it was ended."""
    status, how = pod["status"], ended(pod)
    if status.get("reason"):  # of the pod as a whole: Evicted and the like
        return f"{status['reason']}: {status.get('message', '')}".rstrip(": ")
    if not how.get("exitCode"):
        return waits(pod) if status["phase"] == "Pending" else "ended by Kubernetes"
    code, why = f"exit code {how['exitCode']}", how.get("reason", "Error")
    if why == "Error":
        return code
    # Where the command could not even be started, the message is the engine's own.
    return f"{why}, {code}" + (f": {how.get('message', '')}" if why in UNABLE else "")


def waits(pod: Mapping[str, Any]) -> str:
    """What a pod waits for before it runs."""
    for condition in pod["status"].get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"waits ({condition.get('message', '').partition('. ')[0]})"
    for each in containers(pod):
        waiting = each["state"].get("waiting", {})
        why = waiting.get("reason", STARTING[0])
        if why not in STARTING:
            # A failed pull and the pause before the next one take turns and have the same cause: tell it once.
            said = re.sub(r'^Back-off pulling image "[^"]*"(: Err\w+: )?', "", waiting.get("message", ""))
            return f"waits ({why.replace('ImagePullBackOff', 'ErrImagePull')}: {said or each['image']})"
    return "starting"


def state(pod: Mapping[str, Any]) -> str:
    """What a pod does, for people."""
    phase = str(pod["status"]["phase"])
    if phase == "Succeeded":
        return "done"
    if phase == "Failed":
        return f"failed ({reason(pod)})"
    if "deletionTimestamp" in pod["metadata"]:
        return "is ended by Kubernetes"
    return waits(pod) if phase == "Pending" else phase.lower()


def answer(pod: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON object that the pod left as termination message; None for none."""
    with suppress(ValueError):
        parsed = json.loads(ended(pod).get("message", ""))
        if isinstance(parsed, dict):
            return parsed
    return None


@dataclass
class Log:
    """How far a pod's log is read."""

    last: str = ""
    """The last line, with its time."""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))
    complete: bool = False

    def take(self, text: str) -> list[str]:
        """The lines of an answer (with times) that are new, without their times."""
        lines = [line for line in text.split("\n") if line]
        if self.last in lines:
            lines = lines[lines.index(self.last) + 1 :]
        self.last = lines[-1] if lines else self.last
        # A progress bar writes over its line; only what is left in the end is a line for people.
        new = [line.partition(" ")[2].rstrip("\r").rpartition("\r")[2] for line in lines]
        self.tail.extend(new)
        return new
