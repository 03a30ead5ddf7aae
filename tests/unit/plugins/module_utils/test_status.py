# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of what was found, for people as lines and as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._status import (
    age_words,
    changes,
    drift_words,
    report,
    size_words,
    table,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._status_page import DAY, page, tag

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TODAY = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp() * 1000)
EVIL = "<script>alert('1')</script> & \"more\""

CONTENT = {
    "counts": {
        "experiments": 1,
        "deleted_experiments": 2,
        "runs": 7,
        "deleted_runs": 3,
        "logged_models": 0,
        "deleted_logged_models": 0,
        "registered_models": 2,
        "model_versions": 5,
        "trace_info": 0,
    },
    "runs_by_day": [[TODAY - 9 * DAY, 3], [TODAY - 2 * DAY, 4]],
    "database_bytes": 5_000_000,
    "artifact_bytes": 1 << 30,
    "artifact_files": 12,
    "free_bytes": 10 << 30,
    "volume_bytes": 20 << 30,
}


def pod(name: str = "server", *, component: str = "tracking-server", ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"app.kubernetes.io/component": component}},
        "spec": {"nodeName": "node", "containers": [{"name": "mlflow", "image": "mlflow:1"}]},
        "status": {
            "phase": "Running" if ready else "Pending",
            "startTime": "2026-11-24T10:00:00Z",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [
                {
                    "name": "mlflow",
                    "image": "mlflow:1",
                    "restartCount": 1,
                    "state": {} if ready else {"waiting": {"reason": "ErrImagePull", "message": "not\nfound"}},
                }
            ],
        },
    }


def endpoint(name: str, failure: str = "") -> dict[str, Any]:
    failed = {"level": "database", "status": "failed", "latency_ms": 20.0, "detail": failure}
    checks = [
        {"level": "process", "status": "ok", "latency_ms": 3.25, "detail": "answers"},
        failed if failure else failed | {"status": "ok", "detail": "read"},
        {"level": "artifact", "status": "skipped", "latency_ms": None, "detail": "not in check mode"},
    ]
    return {"name": name, "url": f"http://{name}.local", "healthy": not failure, "checks": checks}


def facts(**changed: Any) -> dict[str, Any]:
    """What the tasks find of a healthy instance, with changes."""
    cluster = {
        "reachable": True,
        "reason": "",
        "context": "minikube",
        "server": "https://1:8443",
        "version": "v1.34.4",
        "nodes": [{"name": "node", "addresses": ["192.168.49.2"], "ready": True}],
        "objects": [{"kind": "Deployment", "component": "tracking-server"}],
    }
    backup = {
        "name": "b",
        "created": "2026-11-24T09:00:00+00:00",
        "instance": "main",
        "mlflow_version": "3",
        "bytes": 9,
    }
    return {
        "instance": "main",
        "namespace": "mlflow",
        "wanted_version": "3.17.2",
        "data_path": "/data/mlflow",
        "cluster": cluster | changed.pop("cluster", {}),
        "minikube": {"state": "running", "version": "v1.38.1"},
        "pods": {"resources": [pod()]},
        "health": {"version": "3.17.2", "endpoints": [endpoint("service"), endpoint("ingress")]},
        "content": {"stdout": json.dumps(CONTENT)},
        "drift": [],
        "drift_unknown": "",
        "directories": [{"diff": []}],
        "directories_unknown": [],
        "backup_target": "controller",
        "backups": [backup, backup | {"instance": "other"}],
        **changed,
    }


def made(**changed: Any) -> dict[str, Any]:
    return report(facts(**changed), "0.1.0", NOW)


def test_a_healthy_instance() -> None:
    found = made()
    assert (found["healthy"], found["problems"]) == (True, [])
    assert found["summary"] == "MLflow main in mlflow of minikube is healthy"
    assert found["backup"]["last"]["age"] == 3 * 3600
    assert json.loads(json.dumps(found)) == found
    lines = table(found)
    assert lines[0] == "healthy     MLflow main in mlflow"
    assert "versions    MLflow 3.17.2, Kubernetes 1.34.4, Minikube 1.38.1, mlops.mlflow 0.1.0" in lines
    assert "storage     database 4.8 MiB, artifacts 1.0 GiB, 10.0 GiB free" in lines
    assert "content     1 experiment, 7 runs, 2 models in 5 versions" in lines
    assert "service     process   ok           3.2 ms" in lines
    assert "drift       none, the cluster is as the inventory says" in lines


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"cluster": {"reachable": False, "reason": "nobody\nanswers"}}, "nobody answers"),
        ({"cluster": {"reachable": False}, "minikube": {"state": "stopped"}}, "Minikube is stopped"),
        ({"minikube": {"state": "degraded"}}, "Minikube is degraded"),
        ({"minikube": {"skipped": True}, "cluster": {"objects": []}}, "it is not deployed"),
        ({"cluster": {"nodes": [{"name": "n", "addresses": [], "ready": False}]}}, "node n is not ready"),
        ({"pods": {"resources": []}}, "no pod of the tracking server"),
        ({"pods": {"msg": "403"}}, "the pods cannot be read: 403"),
        ({"pods": {"resources": [pod(ready=False)]}}, "pod server is not ready: waits (ErrImagePull: not found)"),
        ({"health": {}}, "it has no published address"),
        ({"health": {"msg": "no Python"}}, "no Python"),
        ({"health": {"endpoints": [endpoint("service", "a\nb")]}}, "service http://service.local, database: a b"),
    ],
)
def test_what_is_not_healthy(changed: Mapping[str, Any], problem: str) -> None:
    found = made(**changed)
    assert not found["healthy"]
    assert found["problems"][0].startswith(problem)
    assert "\n" not in found["summary"]
    assert problem in found["summary"]
    assert table(found)[0].startswith("NOT HEALTHY")
    assert "not healthy" in page(found)


def test_only_the_server_counts_for_health() -> None:
    found = made(pods={"resources": [pod(), pod("lab", component="notebook", ready=False)]})
    assert found["healthy"]
    assert "lab" in page(found)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({}, "no pod of the tracking server runs"),
        ({"msg": "refused"}, "refused"),
        ({"stdout": "", "stderr": "Traceback\nOperationalError: locked\n"}, "OperationalError: locked"),
        ({"stdout": ""}, "it said nothing"),
    ],
)
def test_content_that_could_not_be_read(answer: Mapping[str, Any], reason: str) -> None:
    found = made(content=answer)
    assert (found["healthy"], found["content"]) == (True, None)
    assert reason in found["content_unknown"]
    assert reason in page(found)


def test_differences() -> None:
    before = {"spec": {"replicas": 0, "containers": [{"name": "a", "image": "x" * 99}]}, "kind": "Deployment"}
    after = {"spec": {"replicas": 1, "containers": [{"name": "a", "image": "y"}]}, "kind": "Deployment", "new": True}
    diffs = [
        {"before_header": "Deployment/d", "before": before, "after": after},
        {"before_header": "Service/new", "before": {}, "after": after},
        {"before_header": "Service/old", "before": before, "after": {}},
        {"before_header": "Secret/s", "before": {"kind": "Secret"}, "after": {"kind": "Secret"}},
    ]
    found = made(
        drift=diffs, directories=[{"diff": [{"before_header": "/d", "before": {"mode": "1"}, "after": {"mode": "2"}}]}]
    )
    assert found["healthy"]
    assert {each["object"]: drift_words(each) for each in found["drift"]} == {
        "Deployment/d": [
            "spec.replicas: 0 \u2192 1",
            f"spec.containers[a].image: {'x' * 60}\u2026 \u2192 y",
            "new: nothing \u2192 true",
        ],
        "Service/new": ["would be made"],
        "Service/old": ["would be removed"],
        "Secret/s": ["its content would change"],
        "/d": ["mode: 1 \u2192 2"],
    }
    assert list(changes({"a": 1}, {"a": 1})) == []


def test_what_could_not_be_compared_is_not_called_equal() -> None:
    found = made(directories=[{"unreachable": True, "msg": "no route"}], directories_unknown=["full"])
    assert (found["healthy"], found["drift"], found["drift_unknown"]) == (True, [], ["full", "no route"])
    assert table(found)[-2:] == ["drift       unknown, full", "drift       unknown, no route"]
    assert all(f"Unknown: {note}" in page(found) for note in ("full", "no route"))


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("href", "src", "xlink:href", "action")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_what_others_wrote_is_text() -> None:
    found = made(
        pods={"resources": [pod(EVIL), pod(EVIL, component=EVIL, ready=False)]},
        health={"version": EVIL, "endpoints": [endpoint(EVIL, EVIL)]},
        drift=[{"before_header": EVIL, "before": {EVIL: EVIL}, "after": {EVIL: "x"}}],
        instance=EVIL,
    )
    text = page(found)
    seen = Page(text)
    assert seen.open == []
    assert "script" not in seen.tags
    assert seen.links == ["data:,"]
    assert "&lt;script&gt;" in text


def test_an_element() -> None:
    assert (
        tag("b", "a<b", tag("i", "&"), class_="x", http_equiv='"')
        == '<b class="x" http-equiv="&quot;">a&lt;b<i>&amp;</i></b>'
    )


def test_the_growth_of_runs_is_cumulative() -> None:
    text = page(made())
    assert 'aria-label="Growth of runs to 7"' in text
    assert "2026-11-14" in text
    assert "No runs yet" in page(made(content={"stdout": json.dumps(CONTENT | {"runs_by_day": []})}))
    assert "Growth of runs to 4" in page(made(content={"stdout": json.dumps(CONTENT | {"runs_by_day": [[TODAY, 4]]})}))


def test_words() -> None:
    assert [size_words(count) for count in (None, 0, 1536, 5 << 40)] == ["unknown", "0 B", "1.5 KiB", "5.0 TiB"]
    assert [age_words(age) for age in (5, 119, 120, 7200, 200000)] == [
        *("5 seconds", "119 seconds", "2 minutes", "2 hours", "2 days"),
    ]
