# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mlflow_* modules against a real MLflow server on localhost; the real `mlflow` package says what they did."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _mlflow_health as health
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import Client
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_experiment import ensure
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import Server
from mlflow_server import Running, ansible, free_port, options, play


def visible(server: Running) -> tuple[list[str], list[str]]:
    """Names of what the web UI lists of ours."""
    experiments = [item.name for item in server.real.search_experiments() if item.name.startswith("mlops")]
    return experiments, [item.name for item in server.real.search_registered_models()]


def test_health_through_two_addresses_leaves_nothing_behind(server: Running) -> None:
    endpoints = [
        {"name": "service", "url": server.url},
        {"name": "ingress", "url": f"http://mlflow.local:{server.port}/", "address": "127.0.0.1"},
    ]
    wanted = {"endpoints": endpoints, "version": server.version}
    good, first = ansible("mlflow_health", wanted)
    assert good, first
    for result in (first, health.check(options("", **wanted), read_only=False)):
        assert (result["changed"], result["healthy"], result["version"]) == (False, True, server.version)
        checks = [check for endpoint in result["endpoints"] for check in endpoint["checks"]]
        assert [check["level"] for check in checks] == list(health.LEVELS) * 2
        assert all(check["status"] == "ok" and check["latency_ms"] > 0 for check in checks)
        assert len(result["table"]) == 11
        assert visible(server) == ([], [])
        assert server.files() == []
    from mlflow.entities import ViewType  # noqa: PLC0415

    deleted = server.real.search_experiments(view_type=ViewType.DELETED_ONLY)
    assert [item.name for item in deleted] == [health.EXPERIMENT]
    assert server.real.search_runs([deleted[0].experiment_id], run_view_type=ViewType.ALL) == []


def test_checks_at_the_same_time_do_not_disturb_one_another(server: Running) -> None:
    def check(_: int) -> dict[str, Any]:
        return health.check(options(server.url, timeout=20), read_only=False)

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(check, range(12)))
    assert all(result["healthy"] for result in results)
    assert visible(server) == ([], [])
    assert server.files() == []
    before = len(server.rows())
    check(0)
    assert len(server.rows()) == before


def test_check_mode_only_reads(server: Running) -> None:
    before = server.rows()
    good, result = ansible("mlflow_health", {"tracking_uri": server.url}, "--check")
    assert good
    assert [check["status"] for check in result["endpoints"][0]["checks"]] == ["ok", "ok", "ok", "skipped", "ok"]
    assert server.rows() == before


def test_a_check_that_was_killed_is_cleaned_up_after(server: Running) -> None:
    old = f"health-{int(time.time()) - 4000}-{'a' * 16}"
    with Client(Server(server.url)) as client:
        reserved = client.experiment(health.EXPERIMENT)
        assert reserved
        client.restore_experiment(reserved.id)
        client.create_model(f"mlops.mlflow.{old}")
        client.upload(f"{reserved.id}/{old}", b"left")
        assert client.artifacts(reserved.id) == [old]
    assert visible(server) == ([health.EXPERIMENT], [f"mlops.mlflow.{old}"])
    health.check(options(server.url), read_only=False)
    assert visible(server) == ([], [])
    assert server.files() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"host": "evil.example"}, r"\(database\).*does not allow the Host header 'evil.example'.*'evil.example:\*'"),
        ({"version": "2.22.0"}, r"\(version\).*not 2.22.0"),
    ],
)
def test_a_wrong_setting_is_told_long_before_the_timeout(
    server: Running, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], expected: str
) -> None:
    monkeypatch.setattr(health, "_SHORT", 0.5)
    start = time.monotonic()
    with pytest.raises(MlopsError, match=expected):
        health.check(options(server.url, timeout=60, **changes), read_only=False)
    assert time.monotonic() - start < 5


def test_a_failure_under_ansible_carries_the_table_and_the_advice(server: Running) -> None:
    port = free_port()
    endpoints = [{"name": "ok", "url": server.url}, {"name": "bad", "url": f"http://127.0.0.1:{port}"}]
    good, result = ansible("mlflow_health", {"endpoints": endpoints, "timeout": 1, "interval": 0.5})
    assert not good
    assert f"(process): No answer from MLflow at http://127.0.0.1:{port}: nothing listens" in result["msg"]
    assert [endpoint["healthy"] for endpoint in result["endpoints"]] == [True, False]
    assert [line.split()[3] for line in result["table"][6:]] == ["failed", *["skipped"] * 4]


def test_a_server_that_is_restarted_is_waited_for(server: Running, tmp_path: Path) -> None:
    """Its port is taken over by a proxy that says 503 for a second, then passes bytes on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ready = time.monotonic() + 1

        def pass_on() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                if time.monotonic() < ready:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    connection.close()
                    continue
                upstream = socket.create_connection(("127.0.0.1", server.port))
                for source, target in ((connection, upstream), (upstream, connection)):
                    threading.Thread(target=pump, args=(source, target), daemon=True).start()

        def pump(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)

        threading.Thread(target=pass_on, daemon=True).start()
        url = f"http://mlflow.local:{listener.getsockname()[1]}"
        result = health.check(options(url, address="127.0.0.1", timeout=20), read_only=False)
    assert result["healthy"]


EXPERIMENT_TASKS = """
    - mlops.mlflow.mlflow_experiment: {name: &name "Anomaly Detection", tags: &tags {team: research, level: 3}}
      check_mode: true
      register: foreseen
    - mlops.mlflow.mlflow_experiment: {name: *name, tags: *tags}
      register: made
    - mlops.mlflow.mlflow_experiment: {name: *name, tags: *tags}
      register: again
    - mlops.mlflow.mlflow_experiment: {name: *name, tags: {level: null, owner: ada}}
      register: tagged
    - mlops.mlflow.mlflow_experiment: {name: *name, state: absent}
      register: deleted
    - mlops.mlflow.mlflow_experiment: {name: *name, state: absent}
      register: deleted_again
    - mlops.mlflow.mlflow_experiment: {name: *name}
      register: refused
      ignore_errors: true
    - mlops.mlflow.mlflow_experiment: {name: *name, state: restored, tags: {owner: bob}}
      register: restored
    - mlops.mlflow.mlflow_experiment: {name: *name, state: restored}
      register: restored_again
    - mlops.mlflow.mlflow_info:
      register: info
"""


def test_the_life_of_an_experiment(server: Running, tmp_path: Path) -> None:
    results = play(server, tmp_path, EXPERIMENT_TASKS)
    changed = [name for name, result in results.items() if result["changed"]]
    assert changed == ["foreseen", "made", "tagged", "deleted", "restored"]
    assert results["foreseen"]["diff"] == results["made"]["diff"]
    assert results["foreseen"]["experiment"] is None
    assert results["made"]["diff"]["after"] == {"lifecycle_stage": "active", "tags": {"team": "research", "level": "3"}}
    assert results["deleted"]["experiment"]["lifecycle_stage"] == "deleted"
    assert "state=restored" in results["refused"]["msg"]
    real = server.real.get_experiment_by_name("Anomaly Detection")
    assert real is not None
    assert results["restored"]["experiment"] == {
        "id": real.experiment_id,
        "name": real.name,
        "artifact_location": real.artifact_location,
        "lifecycle_stage": real.lifecycle_stage,
        "tags": real.tags,
        "creation_time": real.creation_time,
        "last_update_time": real.last_update_time,
    }
    assert real.tags == {"team": "research", "owner": "bob"}
    info = results["info"]
    assert info["version"] == server.version
    assert {item["name"] for item in info["experiments"]} == {"Default", "Anomaly Detection"}
    assert info["server"]["store_type"] == "SqlStore"


def test_info_lists_what_the_real_client_lists(server: Running) -> None:
    server.real.create_registered_model("detector", tags={"a": "b"}, description="x")
    for number in range(3):
        server.real.create_experiment(f"more {number}")
    _, result = ansible("mlflow_info", {"tracking_uri": server.url, "view": "all", "limit": 4})
    assert result["counts"] == {"experiments": 4, "registered_models": 1}
    assert result["truncated"] == ["experiments"]
    assert result["registered_models"][0]["name"] == "detector"
    server.real.delete_registered_model("detector")


def test_a_real_run_is_what_the_thin_client_sees(server: Running, tmp_path: Path) -> None:
    """The paths of the artifact API are those that the real package's uploads end in."""
    file = tmp_path / "a b.bin"
    file.write_bytes(bytes(range(256)))
    experiment = server.real.create_experiment("with a run")
    run = server.real.create_run(experiment)
    server.real.log_artifact(run.info.run_id, str(file))
    with Client(Server(server.url)) as client:
        path = f"{experiment}/{run.info.run_id}/artifacts"
        assert client.artifacts(path) == ["a b.bin"]
        assert client.download(f"{path}/a b.bin") == file.read_bytes()
        client.delete_artifact(f"{path}/a b.bin")
    assert server.real.list_artifacts(run.info.run_id) == []


def test_an_experiment_somewhere_else_is_refused(server: Running) -> None:
    wanted = {"name": "Default", "state": "present", "tags": {}, "artifact_location": "s3://bucket/x", "timeout": 10}
    with pytest.raises(MlopsError, match="MLflow cannot move them to s3://bucket/x"):
        ensure(options(server.url) | wanted, check_mode=False)
