# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that MLflow works through each of its addresses, and leave nothing behind.

What a check writes:
- database: a tag on one reserved experiment, which is restored before and deleted again at once. MLflow has no way to
  remove an experiment or a run for good through its API, so exactly one deleted experiment stays, without runs.
- artifact: a file in that experiment's artifact directory, named by time and chance, deleted afterwards.
- registry: a registered model, named by time and chance, removed for good afterwards.
What a check that was killed left of the last two is removed by the next one that comes an hour later.
"""

from __future__ import annotations

import random
import re
import secrets
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import ARTIFACTS, Client, Experiment
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import (
    MlflowError,
    Patience,
    Server,
    access_of,
    server_of,
)

# Each level and the one without which it means nothing; in the order in which they are looked at.
LEVELS: Mapping[str, str | None] = {
    "process": None,
    "version": "process",
    "database": "process",
    "artifact": "database",
    "registry": "process",
}
EXPERIMENT = "mlops.mlflow health"
TAG = "mlops.mlflow.health"
MODEL = "mlops.mlflow.health"

_REQUEST_TIMEOUT = 10.0  # s; an answer that takes longer counts as none
_SHORT = 5.0  # s to wait for failures of `Patience.SHORT`
_CONFLICTS = 20  # attempts where another check restores and deletes the same experiment
_STALE = 3600  # s after which what a check left is nobody's


@dataclass
class Check:
    """What one level of one endpoint came to."""

    level: str
    status: str = "skipped"  # ok, failed or skipped
    detail: str = ""
    latency: float | None = None  # ms
    error: MlflowError | None = None

    def result(self) -> dict[str, Any]:
        return {"level": self.level, "status": self.status, "latency_ms": self.latency, "detail": self.detail}


@dataclass
class Endpoint:
    """One address of the server, and what its checks came to so far."""

    name: str
    server: Server
    checks: dict[str, Check] = field(default_factory=dict)
    version: str | None = None
    experiment: Experiment | None = None

    @property
    def failures(self) -> list[MlflowError]:
        return [check.error for check in self.checks.values() if check.error]

    @property
    def healthy(self) -> bool:
        return not any(check.status == "failed" for check in self.checks.values())

    def result(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "url": self.server.url,
            "healthy": self.healthy,
            "checks": [check.result() for check in self.checks.values()],
        }


@dataclass(frozen=True)
class Plan:
    """What is looked at, and how."""

    levels: Sequence[str]
    version: str | None  # expected
    size: int  # bytes of the artifact
    read_only: bool

    def run(self, endpoint: Endpoint, timeout: float = _REQUEST_TIMEOUT) -> None:
        """Look at each level of an endpoint that is not known to be fine."""
        with Client(endpoint.server, timeout) as client:
            for level in (level for level in LEVELS if level in self.levels):
                known = endpoint.checks.get(level)
                if known is None or known.status != "ok":
                    endpoint.checks[level] = self._check(level, endpoint, client)

    def _check(self, level: str, endpoint: Endpoint, client: Client) -> Check:
        need = LEVELS[level]
        while need and need not in endpoint.checks:  # not asked for: what it needs itself stands for it
            need = LEVELS[need]
        if need and endpoint.checks[need].status != "ok":
            return Check(level, detail=f"needs {need}")
        probe: Callable[[Endpoint, Client], str] = getattr(self, f"_{level}")
        if level == "artifact" and self.read_only:
            return Check(level, detail="not in check mode")
        start = time.perf_counter()
        try:
            detail = probe(endpoint, client)
        except MlflowError as error:
            return Check(level, "failed", error.cause, _since(start), error)
        if detail.startswith("skipped: "):
            return Check(level, detail=detail.removeprefix("skipped: "))
        return Check(level, "ok", detail, _since(start))

    def _process(self, endpoint: Endpoint, client: Client) -> str:  # noqa: ARG002  probes have one shape
        client.health()
        return "answers"

    def _version(self, endpoint: Endpoint, client: Client) -> str:
        endpoint.version = client.version()
        if self.version and endpoint.version != self.version:
            raise MlflowError(
                f"MLflow at {endpoint.server.where} is version {endpoint.version}, not {self.version}",
                "Is the new image rolled out, and does this address lead to the server that was meant?",
                patience=Patience.SHORT,
            )
        return endpoint.version

    def _database(self, endpoint: Endpoint, client: Client) -> str:
        if self.read_only:
            client.experiments(limit=1)
            return "read"
        self._reserved(endpoint, client)
        return "written and read"

    def _reserved(self, endpoint: Endpoint, client: Client) -> Experiment:
        """Write to the reserved experiment, whatever other checks do to it meanwhile; the experiment."""
        token = secrets.token_hex(8)
        for attempt in range(_CONFLICTS):
            try:
                endpoint.experiment = _tag_reserved_experiment(client, token)
            except MlflowError as error:
                if not _is_conflict(error):
                    raise
            else:
                return endpoint.experiment
            time.sleep(random.uniform(0, 0.02 * (attempt + 1)))  # noqa: S311  spreads checks, hides nothing
        raise MlflowError(
            f"The experiment {EXPERIMENT!r} at {endpoint.server.where} changed under {_CONFLICTS} attempts",
            "Other checks are at work at the same time: try again",
            patience=Patience.LONG,
        )

    def _artifact(self, endpoint: Endpoint, client: Client) -> str:
        experiment = endpoint.experiment or self._reserved(endpoint, client)
        directory = _served_path(experiment, endpoint.server)
        if directory is None:
            return f"skipped: clients write to {experiment.artifact_location} themselves"
        for name in client.artifacts(directory):
            if _is_stale(name):
                client.delete_artifact(f"{directory}/{name}")
        path = f"{directory}/{_own_name('health')}"
        content = random.randbytes(self.size)  # noqa: S311  any bytes will do
        with _cleaning_up(lambda: client.delete_artifact(path)):
            client.upload(path, content)
            returned = client.download(path)
        if returned != content:
            raise MlflowError(
                f"{self.size} bytes stored through {endpoint.server.where} came back as {len(returned)} other ones",
                "Something between changes bodies, or the artifact store is damaged",
            )
        return f"{self.size} bytes there and back"

    def _registry(self, endpoint: Endpoint, client: Client) -> str:  # noqa: ARG002  probes have one shape
        leftovers = client.models(filter_string=f"name LIKE '{MODEL}-%'", limit=100)
        if self.read_only:
            return "read"
        for model in leftovers:
            if _is_stale(model["name"]):
                client.delete_model(model["name"])
        name = _own_name(MODEL)
        with _cleaning_up(lambda: client.delete_model(name)):
            client.create_model(name, "Made by a health check, which removes it at once")
            client.model(name)
        return "written and read"


def check(parameters: Mapping[str, Any], *, read_only: bool) -> dict[str, Any]:
    """Wait until every endpoint is healthy; the module's result, or an error with the same keys."""
    endpoints = _endpoints(parameters)
    levels = parameters["levels"]
    plan = Plan(levels, parameters["version"], parameters["artifact_size"], read_only)
    wait_until_healthy(plan, endpoints, parameters["timeout"], parameters["interval"])
    result = {
        "changed": False,
        "healthy": all(endpoint.healthy for endpoint in endpoints),
        "version": next((endpoint.version for endpoint in endpoints if endpoint.version), None),
        "endpoints": [endpoint.result() for endpoint in endpoints],
        "table": table(endpoints),
    }
    first = next((failed for endpoint in endpoints for failed in endpoint.checks.values() if failed.error), None)
    if first and first.error:
        raise MlopsError(f"MLflow is not healthy ({first.level}): {first.error.message}", **result)
    return result


def wait_until_healthy(plan: Plan, endpoints: Sequence[Endpoint], timeout: float, interval: float) -> None:
    """Look at the endpoints, again and again while something fails that waiting may cure, for `timeout` seconds."""
    end = time.monotonic() + timeout
    short_end = end
    before = None
    while True:
        limit = min(_REQUEST_TIMEOUT, max(1.0, end - time.monotonic()))
        with ThreadPoolExecutor(max(1, len(endpoints))) as pool:  # side by side: most of it is waiting for the server
            list(pool.map(lambda endpoint, limit=limit: plan.run(endpoint, limit), endpoints))
        patience = min((error.patience for endpoint in endpoints for error in endpoint.failures), default=Patience.NONE)
        if patience == Patience.NONE:
            return
        if patience != before:
            before, short_end = patience, time.monotonic() + _SHORT
        left = (end if patience == Patience.LONG else min(end, short_end)) - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(interval, left))


def table(endpoints: Sequence[Endpoint]) -> list[str]:
    """Aligned lines with a heading: endpoint, url, level, status, latency."""
    rows = [("endpoint", "url", "level", "status", "latency")]
    for endpoint in endpoints:
        for checked in endpoint.checks.values():
            latency = "" if checked.latency is None else f"{checked.latency:.1f} ms"
            rows.append((endpoint.name, endpoint.server.url, checked.level, checked.status, latency))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=False)), row[4].rjust(widths[4])])
        for row in rows
    ]


def _endpoints(parameters: Mapping[str, Any]) -> list[Endpoint]:
    given = parameters["endpoints"]
    if not given:
        return [Endpoint("server", server_of(parameters))]
    access = access_of(parameters)
    endpoints = []
    for item in given:
        server = Server(url=item["url"].rstrip("/"), host=item.get("host"), address=item.get("address"), **access)
        endpoints.append(Endpoint(item["name"], server))
    return endpoints


def _tag_reserved_experiment(client: Client, token: str) -> Experiment:
    """Write a tag and read it back; leaves the experiment deleted, so that no list shows it."""
    experiment = client.experiment(EXPERIMENT)
    if experiment is None:
        identity = client.create_experiment(EXPERIMENT)
    else:
        identity = experiment.id
        if experiment.deleted:
            client.restore_experiment(identity)

    def delete() -> None:
        try:
            client.delete_experiment(identity)
        except MlflowError as error:
            if not _is_conflict(error):
                raise

    with _cleaning_up(delete):
        client.set_experiment_tag(identity, TAG, token)
        written = client.experiment_by_id(identity)
    if written.tags.get(TAG) != token:
        raise MlflowError("Another check wrote its own tag", code="RESOURCE_CONFLICT")
    return written


def _is_conflict(error: MlflowError) -> bool:
    """Whether this is what happens where two checks use the reserved experiment at once (or `mlflow gc` removes it)."""
    inactive = error.code == "INVALID_PARAMETER_VALUE" and "'active' state" in error.message
    # Two that write the first tag of a new experiment: MLflow looks for it, then inserts it.
    both = any(name in error.message for name in ("IntegrityError", "UniqueViolation"))
    return inactive or both or error.code in ("RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "RESOURCE_CONFLICT")


@contextmanager
def _cleaning_up(clean: Callable[[], None]) -> Iterator[None]:
    """Call `clean` afterwards; where something failed before, that is what is told."""
    try:
        yield
    except BaseException:
        with suppress(MlopsError):
            clean()
        raise
    clean()


def _served_path(experiment: Experiment, server: Server) -> str | None:
    """Where under the server's artifact API an experiment's files are; None where clients write to a store themselves.

    Sources: `mlflow.store.artifact.{artifact_repository_registry,mlflow_artifacts_repo}`.
    """
    location = experiment.artifact_location
    parts = urllib.parse.urlsplit(location)
    if parts.scheme == "mlflow-artifacts":
        return parts.path.strip("/")
    if parts.scheme in ("http", "https") and f"{ARTIFACTS}/" in parts.path:
        return parts.path.split(f"{ARTIFACTS}/", 1)[1].strip("/")
    if parts.scheme in ("", "file"):
        raise MlflowError(
            f"MLflow at {server.where} gives new experiments an artifact directory of its own file system, {location}: "
            "clients would write there on their own disk",
            "Start the server with --artifacts-destination and without --default-artifact-root. If that is done, "
            f"`mlflow gc --experiment-ids {experiment.id}` drops the checks' own experiment, which keeps the old place",
        )
    return None


def _own_name(prefix: str) -> str:
    return f"{prefix}-{int(time.time())}-{secrets.token_hex(8)}"


def _is_stale(name: str) -> bool:
    """Whether a check made this name long ago."""
    match = re.search(r"(?:^|\.)health-([0-9]{10,11})-[0-9a-f]{16}$", name)
    return bool(match) and time.time() - int(match[1] if match else 0) > _STALE


def _since(start: float) -> float:
    """Milliseconds since a `perf_counter`."""
    return round((time.perf_counter() - start) * 1000, 1)
