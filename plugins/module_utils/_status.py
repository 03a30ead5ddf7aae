# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an MLflow instance is, holds and how it does, made of what the tasks of the role `status` found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._cluster_info import SERVER
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes_pod import containers, waits

COMPONENT = "app.kubernetes.io/component"
SHOWN = 60  # characters of a value that differs

Report = dict[str, Any]


def report(facts: Mapping[str, Any], collection: str, now: datetime) -> Report:
    """Everything that is known; what could not be found out is null or empty, with the reason among the notes."""
    cluster, minikube = facts["cluster"], facts["minikube"]
    content, unknown = parse_content(facts["content"])
    pods = [describe_pod(pod) for pod in facts["pods"].get("resources") or []]
    endpoints = list(facts["health"].get("endpoints") or [])
    found = list(problems(facts, pods, endpoints))
    silent = [each["msg"] for each in facts["directories"] if each.get("unreachable")]
    made: Report = {
        "time": now.isoformat(timespec="seconds"),
        "instance": facts["instance"],
        "namespace": facts["namespace"],
        "context": cluster["context"] or minikube.get("context") or "",
        "healthy": not found,
        "problems": found,
        "versions": {
            "mlflow": facts["health"].get("version"),
            "wanted_mlflow": facts["wanted_version"],
            "kubernetes": cluster["version"] or None,
            "minikube": minikube.get("version"),
            "collection": collection or None,
        },
        "cluster": {
            "state": minikube.get("state") or ("running" if cluster["reachable"] else "unreachable"),
            "server": cluster["server"],
            "nodes": cluster["nodes"],
        },
        "pods": [pod for pod in pods if pod["phase"] not in ("Succeeded", "Failed")],
        "ended_pods": sum(pod["phase"] in ("Succeeded", "Failed") for pod in pods),
        "endpoints": endpoints,
        "data_path": facts["data_path"],
        "content": content,
        "content_unknown": unknown,
        "backup": describe_backup(facts, now),
        "drift": drift(facts),
        "drift_unknown": [each for each in (facts["drift_unknown"], *facts["directories_unknown"], *silent) if each],
    }
    if not cluster["reachable"]:
        made["drift_unknown"] = ["the cluster cannot be asked"]
    return made | {"summary": summary(made)}


def summary(made: Report) -> str:
    """One line: whether the instance is healthy, and the first reason why not."""
    who = f"MLflow {made['instance']} in {made['namespace']}" + (f" of {made['context']}" if made["context"] else "")
    if made["healthy"]:
        return f"{who} is healthy"
    first, *others = made["problems"]
    more = f" (and {len(others)} more, shown above)" if others else ""
    return f"{who} is not healthy: {first}{more}"


def problems(
    facts: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], endpoints: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Why the instance is not healthy, what lies deepest first."""
    cluster, state = facts["cluster"], facts["minikube"].get("state", "running")
    if not cluster["reachable"]:
        yield one_line(f"Minikube is {state}" if state != "running" else cluster["reason"])
        return
    if state != "running":
        yield f"Minikube is {state}"
    yield from (f"node {node['name']} is not ready" for node in cluster["nodes"] if not node["ready"])
    if not any(found["component"] == SERVER for found in cluster["objects"]):
        yield "it is not deployed"
        return
    servers = [pod for pod in pods if pod["component"] == SERVER]
    if facts["pods"].get("msg"):
        yield one_line(f"the pods cannot be read: {facts['pods']['msg']}")
    elif not servers:
        yield "no pod of the tracking server is there: its Deployment is scaled to 0, or cannot make one"
    yield from (f"pod {pod['name']} is not ready: {pod['state']}" for pod in servers if not pod["ready"])
    if not endpoints:
        yield one_line(facts["health"].get("msg") or "it has no published address")
    for endpoint in endpoints:
        for check in endpoint["checks"]:
            if check["status"] == "failed":
                yield one_line(f"{endpoint['name']} {endpoint['url']}, {check['level']}: {check['detail']}")


def one_line(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(str(text).split())


def describe_pod(pod: Mapping[str, Any]) -> dict[str, Any]:
    """What people want to know of a pod."""
    status, found = pod["status"], containers(pod)
    phase = str(status["phase"])
    return {
        "name": pod["metadata"]["name"],
        "component": (pod["metadata"].get("labels") or {}).get(COMPONENT, ""),
        "node": pod["spec"].get("nodeName"),
        "phase": phase,
        "state": one_line(waits(pod)) if phase == "Pending" else phase.lower(),
        "ready": any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or []),
        "restarts": sum(int(each.get("restartCount", 0)) for each in found),
        "started": status.get("startTime"),
        "image": pod["spec"]["containers"][0]["image"],
    }


def parse_content(answer: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """What the program in the server's pod answered, or why it did not."""
    if "stdout" not in answer:
        return None, one_line(answer.get("msg") or "no pod of the tracking server runs")
    try:
        parsed: dict[str, Any] = json.loads(answer["stdout"])
    except ValueError:
        lines = str(answer.get("stderr", "")).strip().splitlines() or ["it said nothing"]
        return None, one_line(f"the server's pod could not tell: {lines[-1]}")
    return parsed, ""


def describe_backup(facts: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The newest backup that is known, its age in seconds, and how many there are."""
    backups = [backup for backup in facts["backups"] if backup["instance"] == facts["instance"]]
    last = dict(backups[-1]) if backups else None
    if last:
        last["age"] = int((now - datetime.fromisoformat(last["created"])).total_seconds())
    return {"place": facts["backup_target"], "count": len(backups), "last": last}


def drift(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each object that a deploy would change, and what of it."""
    diffs = [*facts["drift"], *(diff for found in facts["directories"] for diff in found.get("diff") or [])]
    return [
        {"object": diff["before_header"], "changes": list(changes(diff.get("before"), diff.get("after")))}
        for diff in diffs
    ]


def changes(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """The values that differ; null stands for none."""
    if isinstance(before, Mapping) and isinstance(after, Mapping) and (path or (before and after)):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from changes(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            name = new.get("name", index) if isinstance(new, Mapping) else index
            yield from changes(old, new, f"{path}[{name}]")
    elif before != after or not path:
        yield {"path": path, "before": shown(before), "after": shown(after)}


def shown(value: Any) -> str | None:
    """A value as short text."""
    if value is None or value == {}:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\u2026"


def drift_words(found: Mapping[str, Any]) -> list[str]:
    """The changes of an object, for people."""
    words = []
    for change in found["changes"]:
        if change["path"]:
            words.append(f"{change['path']}: {change['before'] or 'nothing'} \u2192 {change['after'] or 'nothing'}")
        elif change["before"] is None:
            words.append("would be made")
        else:
            words.append("would be removed" if change["after"] is None else "its content would change")
    return words or ["its content would change"]


def size_words(count: float | None) -> str:
    """A number of bytes for people."""
    if count is None:
        return "unknown"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def age_words(seconds: float) -> str:
    """A duration for people."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def plural(count: int, name: str) -> str:
    """A count with what is counted."""
    return f"{count} {name}{'' if count == 1 else 's'}"


def version_words(made: Report) -> list[str]:
    """The versions that are known, for people."""
    versions, names = made["versions"], {"mlflow": "MLflow", "kubernetes": "Kubernetes", "minikube": "Minikube"}
    known = [f"{name} {versions[key].removeprefix('v')}" for key, name in names.items() if versions[key]]
    return [*known, f"mlops.mlflow {versions['collection']}"] if versions["collection"] else known


def backup_words(made: Report) -> str:
    """The last backup, for people."""
    last = made["backup"]["last"]
    if last:
        return f"{last['name']}, {age_words(last['age'])} ago, {size_words(last['bytes'])}"
    return "none" if made["backup"]["place"] == "controller" else "in a bucket, which is not looked into"


def content_words(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Sizes and counts, for people."""
    counts = content["counts"]
    database, artifacts = size_words(content["database_bytes"]), size_words(content["artifact_bytes"])
    yield "storage", f"database {database}, artifacts {artifacts}, {size_words(content['free_bytes'])} free"
    models = f"{plural(counts['registered_models'], 'model')} in {plural(counts['model_versions'], 'version')}"
    yield "content", f"{plural(counts['experiments'], 'experiment')}, {plural(counts['runs'], 'run')}, {models}"
    yield "deleted", f"{plural(counts['deleted_experiments'], 'experiment')}, {plural(counts['deleted_runs'], 'run')}"


def lines(made: Report) -> Iterator[tuple[str, str]]:
    """What there is to show, each with what it is about."""
    yield ("healthy" if made["healthy"] else "NOT HEALTHY"), f"MLflow {made['instance']} in {made['namespace']}"
    yield from (("problem", problem) for problem in made["problems"])
    yield "versions", ", ".join(version_words(made))
    for node in made["cluster"]["nodes"]:
        yield "node", f"{node['name']} {' '.join(node['addresses'])}, {'ready' if node['ready'] else 'not ready'}"
    for pod in made["pods"]:
        state = f"{pod['state']}, {'ready' if pod['ready'] else 'not ready'}, {plural(pod['restarts'], 'restart')}"
        yield "pod", f"{pod['name']} on {pod['node']}"
        yield "pod", f"{pod['component']}, {state}"
    for endpoint in made["endpoints"]:
        yield endpoint["name"], endpoint["url"]
        for check in endpoint["checks"]:
            latency = "" if check["latency_ms"] is None else f"{check['latency_ms']:8.1f} ms"
            yield endpoint["name"], f"{check['level']:<9} {check['status']:<8}{latency}"
    if made["content"]:
        yield from content_words(made["content"])
    else:
        yield "content", f"unknown, {made['content_unknown']}"
    yield "backup", backup_words(made)
    for found in made["drift"]:
        yield "drift", found["object"]
        yield from (("drift", words) for words in drift_words(found))
    yield from (("drift", f"unknown, {one_line(note)}") for note in made["drift_unknown"])
    if not made["drift"] and not made["drift_unknown"]:
        yield "drift", "none, the cluster is as the inventory says"


def table(made: Report) -> list[str]:
    """The report as lines of text."""
    return [f"{what:<11} {text}".rstrip() for what, text in lines(made)]
