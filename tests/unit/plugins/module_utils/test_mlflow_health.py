# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What health checks conclude and how long they wait; what they do to a real server is in tests/integration."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _mlflow_health as health
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import Experiment
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_health import Check, Endpoint, Plan
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import MlflowError, Patience, Server

URL = "http://mlflow.local"


class FakeClient:
    """A tracking server in memory, as far as a check needs one; `fail` names methods and what they raise."""

    def __init__(self, location: str = "mlflow-artifacts:/7", **fail: Exception) -> None:
        self.reserved: Experiment | None = None
        self.location = location
        self.files: dict[str, bytes] = {}
        self.names: set[str] = set()
        self.fail = fail
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in ("reserved", "location", "files", "names", "fail", "calls"):
            return object.__getattribute__(self, name)
        self.calls.append(name)
        if name in self.fail:
            raise self.fail[name]
        return object.__getattribute__(self, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def health(self) -> None:
        pass

    def version(self) -> str:
        return "3.17.2"

    def experiments(self, limit: int) -> list[Experiment]:
        return []

    def experiment(self, name: str) -> Experiment | None:
        return self.reserved

    def create_experiment(self, name: str) -> str:
        self.reserved = Experiment("7", name, self.location, deleted=False, tags={}, created=None, updated=None)
        return "7"

    def _with(self, **changes: Any) -> None:
        assert self.reserved
        self.reserved = Experiment(**{**vars(self.reserved), **changes})

    def restore_experiment(self, identity: str) -> None:
        self._with(deleted=False)

    def delete_experiment(self, identity: str) -> None:
        self._with(deleted=True)

    def set_experiment_tag(self, identity: str, key: str, value: str) -> None:
        self._with(tags={key: value})

    def experiment_by_id(self, identity: str) -> Experiment:
        assert self.reserved
        return self.reserved

    def artifacts(self, path: str) -> list[str]:
        return [name.removeprefix(f"{path}/") for name in self.files if name.startswith(f"{path}/")]

    def upload(self, path: str, content: bytes) -> None:
        self.files[path] = content

    def download(self, path: str) -> bytes:
        return self.files[path]

    def delete_artifact(self, path: str) -> None:
        self.files.pop(path, None)

    def models(self, filter_string: str, limit: int) -> list[dict[str, Any]]:
        return [{"name": name} for name in sorted(self.names)]

    def create_model(self, name: str, description: str) -> None:
        self.names.add(name)

    def model(self, name: str) -> dict[str, Any]:
        return {"name": name}

    def delete_model(self, name: str) -> None:
        self.names.remove(name)


def look(
    client: FakeClient,
    monkeypatch: pytest.MonkeyPatch,
    levels: Sequence[str] = tuple(health.LEVELS),
    version: str | None = None,
    *,
    read_only: bool = False,
) -> Endpoint:
    monkeypatch.setattr(health, "Client", lambda server, timeout: client)
    endpoint = Endpoint("service", Server(URL))
    Plan(levels, version, 1000, read_only).run(endpoint)
    return endpoint


def statuses(endpoint: Endpoint) -> dict[str, str]:
    return {level: check.status for level, check in endpoint.checks.items()}


def test_a_healthy_server_is_left_as_it_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    for _ in range(2):
        assert set(statuses(look(client, monkeypatch)).values()) == {"ok"}
    assert client.reserved is not None
    assert client.reserved.deleted
    assert (client.files, client.names) == ({}, set())


def test_check_mode_only_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    endpoint = look(client, monkeypatch, read_only=True)
    assert statuses(endpoint) == dict.fromkeys(health.LEVELS, "ok") | {"artifact": "skipped"}
    assert client.calls == ["health", "version", "experiments", "models"]


@pytest.mark.parametrize(
    ("method", "levels", "expected"),
    [
        ("health", ("process", "database", "artifact"), ["failed", "skipped", "skipped"]),
        ("health", ("process", "artifact"), ["failed", "skipped"]),
        ("experiment", ("process", "database", "artifact", "registry"), ["ok", "failed", "skipped", "ok"]),
        ("experiment", ("artifact",), ["failed"]),
        ("set_experiment_tag", ("database",), ["failed"]),
        ("upload", ("artifact", "registry"), ["failed", "ok"]),
        ("download", ("artifact",), ["failed"]),
        ("delete_artifact", ("artifact",), ["failed"]),
        ("model", ("registry",), ["failed"]),
    ],
)
def test_what_fails_is_told_and_what_depends_on_it_is_skipped_and_nothing_stays(
    monkeypatch: pytest.MonkeyPatch, method: str, levels: Sequence[str], expected: list[str]
) -> None:
    client = FakeClient(**{method: MlflowError(f"{method} broke")})
    endpoint = look(client, monkeypatch, levels)
    assert list(statuses(endpoint).values()) == expected
    assert [error.cause for error in endpoint.failures] == [f"{method} broke"]
    assert not client.names
    assert not client.files or method == "delete_artifact"
    assert client.reserved is None or client.reserved.deleted


def test_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = look(FakeClient(), monkeypatch, ["process", "version", "registry"], "3.16.0")
    assert statuses(endpoint) == {"process": "ok", "version": "failed", "registry": "ok"}
    assert "3.17.2, not 3.16.0" in endpoint.failures[0].message
    assert endpoint.version == "3.17.2"


def test_an_artifact_that_comes_back_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    monkeypatch.setattr(FakeClient, "download", lambda self, path: self.files[path][:-1] + b"?!")
    endpoint = look(client, monkeypatch, ["artifact"])
    assert "1000 bytes stored through http://mlflow.local came back as 1001 other ones" in endpoint.failures[0].message
    assert client.files == {}


@pytest.mark.parametrize(
    ("location", "status", "told"),
    [
        ("mlflow-artifacts:/7", "ok", "1000 bytes"),
        ("mlflow-artifacts://host:5000/a/7", "ok", "1000 bytes"),
        ("https://host/api/2.0/mlflow-artifacts/artifacts/7", "ok", "1000 bytes"),
        ("s3://bucket/7", "skipped", "s3://bucket/7 themselves"),
        ("/mnt/data/7", "failed", "their own disk"),
        ("file:///mnt/data/7", "failed", "their own disk"),
    ],
)
def test_where_artifacts_go(monkeypatch: pytest.MonkeyPatch, location: str, status: str, told: str) -> None:
    check = look(FakeClient(location), monkeypatch, ["artifact"]).checks["artifact"]
    assert check.status == status
    assert told in check.detail
    if check.error:
        assert "--artifacts-destination" in check.error.advice
        assert "mlflow gc --experiment-ids 7" in check.error.advice


def test_leftovers_of_checks_that_were_killed_are_removed_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    now = int(time.time())
    old, young = f"health-{now - 4000}-{'a' * 16}", f"health-{now - 100}-{'b' * 16}"
    client.files = dict.fromkeys([f"7/{old}", f"7/{young}", "7/other", f"7/x{old}"], b"")
    client.names = {f"mlops.mlflow.{old}", f"mlops.mlflow.{young}", "mlops.mlflow.health-mine", f"{old}-model"}
    look(client, monkeypatch)
    assert set(client.files) == {f"7/{young}", "7/other", f"7/x{old}"}
    assert client.names == {f"mlops.mlflow.{young}", "mlops.mlflow.health-mine", f"{old}-model"}


def test_another_check_in_the_middle_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    refusals = iter(
        [
            MlflowError("The experiment 7 must be in the 'active' state", code="INVALID_PARAMETER_VALUE"),
            MlflowError("No Experiment with id=7 exists", code="RESOURCE_DOES_NOT_EXIST"),
            MlflowError("(sqlite3.IntegrityError) UNIQUE constraint failed: experiment_tags.key", code="BAD_REQUEST"),
        ]
    )
    original = FakeClient.set_experiment_tag

    def disturbed(self: FakeClient, *arguments: str) -> None:
        for refusal in refusals:
            raise refusal
        original(self, *arguments)

    monkeypatch.setattr(FakeClient, "set_experiment_tag", disturbed)
    assert look(client, monkeypatch, ["database"]).healthy
    client.fail = {"set_experiment_tag": MlflowError("bad tag", code="INVALID_PARAMETER_VALUE")}
    assert not look(client, monkeypatch, ["database"]).healthy


class Scripted(Plan):
    """A plan whose looks come to what the script says: an error, or None for healthy."""

    def __init__(self, *script: MlflowError | None) -> None:
        super().__init__(["process"], None, 0, read_only=False)
        object.__setattr__(self, "script", list(script))
        object.__setattr__(self, "looks", [])

    def run(self, endpoint: Endpoint, timeout: float = 0) -> None:
        self.looks.append(timeout)  # type: ignore[attr-defined]
        script = self.script  # type: ignore[attr-defined]
        error = script.pop(0) if len(script) > 1 else script[0]
        endpoint.checks["process"] = Check("process", "failed" if error else "ok", error=error)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return lambda: now[0] - 1000


LONG = MlflowError("starting", patience=Patience.LONG)
SHORT = MlflowError("wrong host", patience=Patience.SHORT)
NONE = MlflowError("wrong password", patience=Patience.NONE)


@pytest.mark.parametrize(
    ("script", "timeout", "waited", "healthy"),
    [
        ((None,), 60, 0, True),
        ((LONG, LONG, None), 60, 2, True),
        ((LONG,), 60, 60, False),
        ((LONG,), 0, 0, False),
        ((LONG,), 2.5, 2.5, False),
        ((SHORT, None), 60, 1, True),
        ((SHORT,), 60, 5, False),
        ((SHORT,), 2, 2, False),
        ((NONE,), 60, 0, False),
        ((LONG, NONE), 60, 1, False),
        ((*[LONG] * 20, SHORT, None), 60, 21, True),
    ],
)
def test_waiting(
    clock: Callable[[], float], script: Sequence[MlflowError | None], timeout: float, waited: float, healthy: bool
) -> None:
    endpoint = Endpoint("service", Server(URL))
    plan = Scripted(*script)
    health.wait_until_healthy(plan, [endpoint], timeout, 1)
    assert (clock(), endpoint.healthy) == (waited, healthy)
    assert all(1 <= given <= 10 for given in plan.looks)  # type: ignore[attr-defined]


def parameters(**changes: Any) -> dict[str, Any]:
    return {
        "tracking_uri": None,
        "host": None,
        "address": None,
        "ca_path": None,
        "validate_certs": True,
        "username": None,
        "password": None,
        "endpoints": None,
        "levels": ["process", "version"],
        "version": None,
        "artifact_size": 10,
        "timeout": 0,
        "interval": 1,
    } | changes


def test_the_result_and_the_error_have_the_same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    monkeypatch.setattr(health, "Client", lambda server, timeout: client)
    endpoints = [{"name": "service", "url": "http://192.0.2.1:30500/"}, {"name": "ingress", "url": URL}]
    result = health.check(parameters(endpoints=endpoints), read_only=False)
    assert (result["changed"], result["healthy"], result["version"]) == (False, True, "3.17.2")
    assert [line.split() for line in result["table"]][:2] == [
        ["endpoint", "url", "level", "status", "latency"],
        ["service", "http://192.0.2.1:30500", "process", "ok", *result["table"][1].split()[-2:]],
    ]
    assert len({len(line) for line in result["table"]}) == 1
    client.fail = {"version": MlflowError("no version", "Do this")}
    with pytest.raises(MlopsError) as caught:
        health.check(parameters(tracking_uri=URL), read_only=False)
    assert caught.value.message == "MLflow is not healthy (version): no version. Do this"
    assert caught.value.details.keys() == result.keys()
    assert caught.value.details["endpoints"][0]["checks"][1]["detail"] == "no version"


def test_no_server_given() -> None:
    with pytest.raises(MlopsError, match="Which tracking server"):
        health.check(parameters(), read_only=False)
