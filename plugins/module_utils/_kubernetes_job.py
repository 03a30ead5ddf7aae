# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a Kubernetes Job to its end, tells what its pods do and log meanwhile, and returns what they said.

Contracts: https://kubernetes.io/docs/concepts/workloads/controllers/job/ (conditions, indexes, deadline, suspension),
https://kubernetes.io/docs/concepts/architecture/garbage-collection/ (what the Job owns goes with it).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes import (
    ApiError,
    Connection,
    UnreachableError,
    connect,
    object_path,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes_apply import (
    FIELD_MANAGER,
    Tell,
    difference,
    identity,
    remove,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes_pod import (
    Log,
    answer,
    pod_index,
    reason,
    speaker,
    state,
)

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str", "required": True},
    "definition": {"type": "dict", "required": True},
    "objects": {"type": "list", "elements": "dict", "default": []},
    "index_names": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 3600},
}

DIGEST = "mlops.mlflow/digest"
OWNER = "batch.kubernetes.io/controller-uid"
MERGE = "application/merge-patch+json"
POLL = 1  # seconds
GRACE = 60  # seconds that pods get to end after the deadline, and Kubernetes to say so
LINES_A_POLL = 200


def check(job: Mapping[str, Any], objects: Iterable[Mapping[str, Any]], timeout: int) -> None:
    """MlopsError for what cannot be run, told before anything is sent."""
    metadata, spec = job.get("metadata") or {}, job.get("spec") or {}
    if (job.get("apiVersion"), job.get("kind")) != ("batch/v1", "Job") or not metadata.get("name"):
        raise MlopsError("`definition` must be a Job of batch/v1 with a name.")
    name, namespace = metadata["name"], metadata.get("namespace")
    if not namespace:
        raise MlopsError(f"Job {name} needs metadata.namespace.")
    if spec.get("template", {}).get("spec", {}).get("restartPolicy") != "Never":
        raise MlopsError(f"Job {name} needs restartPolicy Never: else Kubernetes removes a failed pod with its log.")
    if spec.get("completions", 1) != 1 and not indexed(job):
        raise MlopsError(f"Job {name} has more than one completion and so needs completionMode Indexed.")
    if timeout < 1:
        raise MlopsError(f"`timeout` is {timeout}, but must be 1 second or more.")
    for each in objects:
        if not each.get("kind") or not (each.get("metadata") or {}).get("name"):
            raise MlopsError(f"Each of the `objects` of Job {name} needs a kind and a name.")
        object_path(each["kind"], each["metadata"]["name"], namespace)
        if each["metadata"].get("namespace") != namespace:  # an owner must be in the same one, or Kubernetes removes it
            raise MlopsError(f"{identity(each)} must be in the namespace of its Job, {namespace}.")


def indexed(job: Mapping[str, Any]) -> bool:
    """Whether each of the Job's pods has an index."""
    return bool(job["spec"].get("completionMode") == "Indexed")


def planned(definition: Mapping[str, Any], objects: Sequence[Mapping[str, Any]], timeout: int) -> dict[str, Any]:
    """The Job as it will run: with its deadline, and the digest by which a later run knows it for its own."""
    content = json.dumps([definition, objects], sort_keys=True)
    annotations = (definition["metadata"].get("annotations") or {}) | {
        DIGEST: hashlib.sha256(content.encode()).hexdigest()[:16]
    }
    return {
        **definition,
        "metadata": {**definition["metadata"], "annotations": annotations},
        "spec": {**definition["spec"], "activeDeadlineSeconds": timeout},
    }


def owned(definition: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    """The object as one that goes with the Job, and before it, so that a next Job of its name can have it anew."""
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
        "blockOwnerDeletion": True,
    }
    return {**definition, "metadata": {**definition["metadata"], "ownerReferences": [owner]}}


def end(job: Mapping[str, Any]) -> dict[str, Any]:
    """The condition by which the Job has ended, Complete or Failed; empty while it runs."""
    conditions = job.get("status", {}).get("conditions") or []
    return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), {})


def decide(
    found: Mapping[str, Any] | None, job: Mapping[str, Any], context: str
) -> Literal["create", "adopt", "replace"]:
    """What to do about the Job of that name in the cluster; MlopsError where it is somebody else's affair."""
    if found is None:
        return "create"
    metadata = found["metadata"]
    digest = (metadata.get("annotations") or {}).get(DIGEST)
    if digest and (end(found) or "deletionTimestamp" in metadata):
        return "replace"
    if digest == job["metadata"]["annotations"][DIGEST]:
        return "adopt"
    name, namespace = metadata["name"], metadata["namespace"]
    raise MlopsError(
        f"There is a Job {namespace}/{name} that was started with another content. Nothing was changed. Wait until"
        f" it has ended, or remove it: kubectl --context {context} -n {namespace} delete job {name}. Then run again."
    )


def index_set(text: str) -> set[int]:
    """The numbers of a list such as 0,2-4, the shape of a Job's completedIndexes and failedIndexes."""
    ranges = [part.partition("-") for part in text.split(",") if part]
    return {index for first, _dash, last in ranges for index in range(int(first), int(last or first) + 1)}


def succeeded(job: Mapping[str, Any]) -> set[int]:
    """The indexes that are done."""
    status = job.get("status", {})
    if indexed(job):
        return index_set(status.get("completedIndexes", ""))
    return {0} if status.get("succeeded") else set()


@dataclass
class Seen:
    """What was seen of a Job: its pods, also those that are gone, their logs, and what was told of them."""

    job: dict[str, Any]
    names: Sequence[str]
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, Log] = field(default_factory=dict)
    told: dict[int, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many indexes there are."""
        return int(self.job["spec"].get("completions", 1)) if indexed(self.job) else 1

    def label(self, index: int) -> str:
        """What the index is called for people."""
        if index < len(self.names):
            return self.names[index]
        return f"index {index}" if indexed(self.job) else str(self.job["metadata"]["name"])

    def update(self, job: dict[str, Any], pods: Iterable[dict[str, Any]]) -> None:
        """Take what the cluster says now."""
        self.job = job
        for pod in pods:
            uid, known = pod["metadata"]["uid"], self.pods.get(pod["metadata"]["uid"])
            # A pod that is deleted no longer says what it waited for.
            if not ("deletionTimestamp" in pod["metadata"] and known and state(known).startswith("waits")):
                self.pods[uid] = pod

    def tries(self, index: int) -> list[dict[str, Any]]:
        """The index's pods, the last one last."""
        pods = [pod for pod in self.pods.values() if pod_index(pod) == index]
        return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def news(self) -> str:
        """A line for people of what changed since the last one; empty for nothing."""
        done, changed = succeeded(self.job), []
        for index in range(self.count):
            pods = self.tries(index)
            if index not in done and not pods:
                continue
            now = "done" if index in done else state(pods[-1])
            if now == "done":
                done.add(index)
            elif len(pods) > 1:
                now = f"{now}, attempt {len(pods)}"
            if self.told.get(index) != now:
                self.told[index] = now
                changed.append(f"{self.label(index)}: {now}")
        head = [f"{len(done)}/{self.count} done"] if self.count > 1 and changed else []
        return "; ".join(head + changed)

    def indexes(self) -> list[dict[str, Any]]:
        """The result key `indexes`."""
        done, found = succeeded(self.job), []
        for index in range(self.count):
            pods = self.tries(index)
            found.append(
                {
                    "index": index,
                    "name": self.label(index),
                    "status": "succeeded" if index in done else "failed",
                    "attempts": len(pods),
                    "result": answer(pods[-1]) if pods else None,
                }
            )
        return found

    def failure(self, context: str) -> str:
        """What to tell of a Job that failed."""
        metadata, condition = self.job["metadata"], end(self.job)
        name, namespace = metadata["name"], metadata["namespace"]
        parts, reasons = [f"Job {namespace}/{name} failed: {condition.get('message') or condition.get('reason')}."], []
        for index in sorted(set(range(self.count)) - succeeded(self.job)):
            pods = self.tries(index)
            if not pods:
                parts.append(f"{self.label(index)}: not started.")
                continue
            reasons.append(reason(pods[-1]))
            lines = self.logs.get(pods[-1]["metadata"]["uid"], Log()).tail
            said = "the end of its log:" if lines else "it logged nothing."
            parts.append(f"{self.label(index)}: {reasons[-1]}, attempts: {len(pods)}; {said}")
            parts += [f"  | {line}" for line in lines]
        if any(each.startswith("waits") for each in reasons):
            advice = "See to what it waits for"
        elif condition.get("reason") == "DeadlineExceeded":
            advice = f"Give it more than the {self.job['spec']['activeDeadlineSeconds']} seconds of `timeout`"
        elif any("OOMKilled" in each for each in reasons):
            advice = "Give its container a higher memory limit"
        else:
            advice = "Correct the cause"
        parts.append(
            f"{advice} and run again: the failed Job is then started anew. Until then it stays for a closer look:"
            f" kubectl --context {context} -n {namespace} describe job,pod -l batch.kubernetes.io/job-name={name}"
        )
        return "\n".join(parts)


def seconds(job: Mapping[str, Any]) -> int:
    """From the start of a Job that has ended to its end."""
    begin, stop = job["status"].get("startTime"), end(job)["lastTransitionTime"]
    return int((datetime.fromisoformat(stop) - datetime.fromisoformat(begin or stop)).total_seconds())


def create(connection: Connection, definition: Mapping[str, Any]) -> dict[str, Any]:
    """Make an object that is not there; ApiError 409 where it is."""
    metadata = definition["metadata"]
    path = object_path(definition["kind"], metadata["name"], metadata["namespace"]).rsplit("/", 1)[0]
    return connection.json("POST", path, query={"fieldManager": FIELD_MANAGER}, body=definition)


def provide(connection: Connection, definition: Mapping[str, Any]) -> None:
    """Make an object of the Job unless it is there; MlopsError where its name is taken by what is not the Job's."""
    (owner,) = definition["metadata"]["ownerReferences"]
    where = (definition["kind"], definition["metadata"]["name"], definition["metadata"]["namespace"])
    while True:
        try:
            create(connection, definition)
            return
        except ApiError as error:
            if error.status != 409:
                raise
        found = connection.find(*where)
        owners = found["metadata"].get("ownerReferences") or [] if found else []
        if owner["uid"] in [each["uid"] for each in owners]:
            return
        if found and (owner["kind"], owner["name"]) not in [(each["kind"], each["name"]) for each in owners]:
            raise MlopsError(
                f"There is a {identity(definition)} in {where[2]} already that does not belong to Job {owner['name']}."
                " The Job was not run. Remove or rename one of the two and run again."
            )
        if found:  # of an earlier Job of that name, whose garbage is not collected yet
            remove(connection, found)


def release(connection: Connection, job: Mapping[str, Any], objects: Iterable[Mapping[str, Any]], timeout: int) -> None:
    """Let the Job run, within `timeout`, once its objects are there. Where they cannot be made, it does not stay."""
    metadata = job["metadata"]
    try:
        for each in objects if job["spec"].get("suspend") else ():
            provide(connection, owned(each, job))
    except MlopsError:
        with suppress(MlopsError):
            remove(connection, job)
        raise
    path = object_path("Job", metadata["name"], metadata["namespace"])
    spec = {"suspend": False, "activeDeadlineSeconds": timeout}
    body = {"metadata": {"uid": metadata["uid"]}, "spec": spec}  # refused where the name has another uid by now
    connection.json("PATCH", path, query={"fieldManager": FIELD_MANAGER}, body=body, content_type=MERGE)


def start(
    connection: Connection, job: Mapping[str, Any], objects: Sequence[Mapping[str, Any]], tell: Tell
) -> tuple[dict[str, Any], bool]:
    """The Job in the cluster, which runs from now on, and whether it was started here."""
    metadata, spec = job["metadata"], job["spec"]
    while True:
        found = connection.find("Job", metadata["name"], metadata["namespace"])
        what = decide(found, job, connection.context)
        if found and what == "replace":
            tell(f"{identity(job)} of an earlier run is removed")
            remove(connection, found)
        elif found:
            tell(f"{identity(job)} runs already, from an interrupted or another run: waiting for it")
            break
        else:
            try:
                found = create(connection, {**job, "spec": {**spec, "suspend": True}})
                break
            except ApiError as error:
                if error.status != 409:  # else another controller was faster: look at what it made
                    raise
    release(connection, found, objects, spec["activeDeadlineSeconds"])
    return found, what == "create"


def read_logs(connection: Connection, seen: Seen, tell: Tell) -> None:
    """Tell what is new in the logs of the pods that run or have just ended."""
    for uid, pod in seen.pods.items():
        log, speaks, metadata = seen.logs.setdefault(uid, Log()), speaker(pod), pod["metadata"]
        if log.complete or not speaks or "waiting" in speaks["state"]:
            continue
        query = {"container": speaks["name"], "timestamps": "true", "tailLines": str(LINES_A_POLL)}
        if log.last:
            query["sinceTime"] = log.last.partition(" ")[0]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
        try:
            text = connection.read("GET", path, query=query).decode(errors="replace")
        except MlopsError as error:  # a node that is away has no logs; what counts is what the Job's status says
            log.complete = error.details.get("status") == 404
            continue
        log.complete = "terminated" in speaks["state"]
        for line in log.take(text):
            tell(f"{seen.label(pod_index(pod))} | {line}" if seen.count > 1 else line)


def look(connection: Connection, seen: Seen) -> None:
    """Ask for the Job and its pods, in this order: of a Job that has ended the pods no longer change."""
    metadata = seen.job["metadata"]
    job = connection.find("Job", metadata["name"], metadata["namespace"])
    if not job or job["metadata"]["uid"] != metadata["uid"]:
        raise MlopsError(f"{identity(seen.job)} was removed by somebody else while it ran. Run again.")
    pods = connection.json(
        "GET",
        f"/api/v1/namespaces/{metadata['namespace']}/pods",
        query={"labelSelector": f"{OWNER}={metadata['uid']}"},
    )
    seen.update(job, pods["items"])


def follow(connection: Connection, seen: Seen, timeout: float, tell: Tell) -> None:
    """Return once the Job has ended; MlopsError where Kubernetes does not end it in time."""
    deadline, away = time.monotonic() + timeout + GRACE, False
    while not end(seen.job):
        try:
            look(connection, seen)
        except (UnreachableError, ApiError) as error:
            refused = isinstance(error, ApiError) and error.status < 500 and error.status != 429
            if refused or time.monotonic() > deadline:
                raise
            if not away:
                tell(f"{error.message} Asking again; the Job goes on meanwhile.")
            away = True
        else:
            if away:
                tell("The API server answers again")
            away = False
            read_logs(connection, seen, tell)
            if line := seen.news():
                tell(line)
            if not end(seen.job) and time.monotonic() > deadline:
                raise MlopsError(
                    f"Kubernetes did not end {identity(seen.job)} after its deadline of {timeout:.0f} s: its pods"
                    " cannot be ended, or its controller does not run. Look at the nodes and at kube-system.",
                    indexes=seen.indexes(),
                )
        if not end(seen.job):
            time.sleep(POLL)


def kubernetes_job(parameters: Mapping[str, Any], *, check_mode: bool, tell: Tell) -> dict[str, Any]:
    """The result; raises MlopsError, which has the same keys. `tell` shows a line to people."""
    definition, objects, timeout = parameters["definition"], parameters["objects"], parameters["timeout"]
    check(definition, objects, timeout)
    job = planned(definition, objects, timeout)
    diff = [difference(each, None, each) for each in (job, *objects)]
    result = {"changed": True, "name": job["metadata"]["name"]}
    if check_mode:
        return result | {"diff": diff, "seconds": 0, "indexes": [], "result": None}

    connection = connect(parameters["kubeconfig"], parameters["context"], os.environ)
    running, started = start(connection, job, objects, tell)
    seen = Seen(running, parameters["index_names"])
    follow(connection, seen, timeout, tell)
    indexes = seen.indexes()
    result |= {"seconds": seconds(seen.job), "indexes": indexes, "result": indexes[0]["result"]}
    result |= {"diff": diff} if started else {}
    if end(seen.job)["type"] == "Failed":
        raise MlopsError(seen.failure(connection.context), **result)
    return result
