# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thin client of MLflow's REST API, and what it returns.

The contract relied on is that of MLflow 3.17.2: the routes of `mlflow.server`, `mlflow.server.handlers` and
`mlflow.server.server_info_api`, the errors of `mlflow.exceptions`, the host check of `mlflow.server.fastapi_security`.
The `mlflow` package itself is not imported: that takes 1.7 s, a whole check with this client takes 0.1 s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_http import Http
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import MlflowError, excerpt, foreign

HEALTH = "/health"
VERSION = "/version"
SERVER_INFO = "/api/3.0/mlflow/server-info"
API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
# What a module's `view` option means to MLflow (`mlflow.entities.ViewType`).
VIEWS = {"active": "ACTIVE_ONLY", "deleted": "DELETED_ONLY", "all": "ALL"}
PARENT_TAG = "mlflow.parentRunId"  # `mlflow.utils.mlflow_tags.MLFLOW_PARENT_RUN_ID`
NAME_TAG = "mlflow.runName"  # `mlflow.utils.mlflow_tags.MLFLOW_RUN_NAME`

_T = TypeVar("_T")


def found(read: Callable[[], _T]) -> _T | None:
    """What `read` returns; None where MLflow knows no such thing."""
    try:
        return read()
    except MlflowError as error:
        if error.code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def quoted(text: str) -> str:
    """Text in a filter string, which knows two kinds of quotes and no escapes (`mlflow.utils.search_utils`)."""
    mark = '"' if "'" in text else "'"
    if mark in text:
        raise MlopsError(f"MLflow cannot search for {text!r}: it holds both kinds of quotes. Choose another name")
    return f"{mark}{text}{mark}"


@dataclass(frozen=True)
class Experiment:
    """An experiment as MLflow returns it (`mlflow.entities.Experiment`)."""

    id: str
    name: str
    artifact_location: str
    deleted: bool
    tags: dict[str, str]
    created: int | None  # ms since 1970
    updated: int | None  # ms since 1970

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Experiment:
        return cls(
            id=str(answer["experiment_id"]),
            name=answer["name"],
            artifact_location=answer.get("artifact_location", ""),
            deleted=answer.get("lifecycle_stage") == "deleted",
            tags=_pairs(answer.get("tags", [])),
            created=answer.get("creation_time"),
            updated=answer.get("last_update_time"),
        )

    def result(self) -> dict[str, Any]:
        """As modules return it."""
        return {
            "id": self.id,
            "name": self.name,
            "artifact_location": self.artifact_location,
            "lifecycle_stage": "deleted" if self.deleted else "active",
            "tags": self.tags,
            "creation_time": self.created,
            "last_update_time": self.updated,
        }


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model as MLflow returns it (`mlflow.entities.model_registry.RegisteredModel`)."""

    name: str
    description: str
    tags: dict[str, str]
    aliases: dict[str, int]
    latest_version: int | None
    created: int | None  # ms since 1970
    updated: int | None  # ms since 1970

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> RegisteredModel:
        return cls(
            name=answer["name"],
            description=answer.get("description", ""),
            tags=_pairs(answer.get("tags", [])),
            aliases={item["alias"]: int(item["version"]) for item in answer.get("aliases", [])},
            latest_version=max((int(item["version"]) for item in answer.get("latest_versions", [])), default=None),
            created=answer.get("creation_timestamp"),
            updated=answer.get("last_updated_timestamp"),
        )

    def result(self) -> dict[str, Any]:
        """As modules return it."""
        return {
            "name": self.name,
            "description": self.description,
            "tags": self.tags,
            "aliases": self.aliases,
            "latest_version": self.latest_version,
            "creation_time": self.created,
            "last_update_time": self.updated,
        }


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model as MLflow returns it (`mlflow.entities.model_registry.ModelVersion`)."""

    name: str
    version: int
    description: str
    source: str
    run_id: str | None
    status: str  # READY, PENDING_REGISTRATION or FAILED_REGISTRATION
    status_message: str
    tags: dict[str, str]
    aliases: list[str]
    created: int | None  # ms since 1970
    updated: int | None  # ms since 1970

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> ModelVersion:
        return cls(
            name=answer["name"],
            version=int(answer["version"]),
            description=answer.get("description", ""),
            source=answer.get("source", ""),
            run_id=answer.get("run_id") or None,
            status=answer.get("status", "READY"),
            status_message=answer.get("status_message", ""),
            tags=_pairs(answer.get("tags", [])),
            aliases=sorted(answer.get("aliases", [])),
            created=answer.get("creation_timestamp"),
            updated=answer.get("last_updated_timestamp"),
        )

    def result(self) -> dict[str, Any]:
        """As modules return it."""
        return {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "source": self.source,
            "run_id": self.run_id,
            "status": self.status,
            "status_message": self.status_message,
            "tags": self.tags,
            "aliases": self.aliases,
            "creation_time": self.created,
            "last_update_time": self.updated,
        }


@dataclass(frozen=True)
class Run:
    """A run as MLflow returns it (`mlflow.entities.Run`)."""

    id: str
    name: str
    status: str
    deleted: bool
    tags: dict[str, str]
    answer: Mapping[str, Any]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Run:
        info = answer["info"]
        return cls(
            id=info["run_id"],
            name=info.get("run_name", ""),
            status=info.get("status", ""),
            deleted=info.get("lifecycle_stage") == "deleted",
            tags=_pairs(answer.get("data", {}).get("tags", [])),
            answer=answer,
        )

    def result(self) -> dict[str, Any]:
        """As modules return it."""
        info, data = self.answer["info"], self.answer.get("data", {})
        models = self.answer.get("outputs", {}).get("model_outputs", [])
        datasets = self.answer.get("inputs", {}).get("dataset_inputs", [])
        return {
            "id": self.id,
            "name": self.name,
            "experiment_id": info.get("experiment_id"),
            "status": self.status,
            "lifecycle_stage": "deleted" if self.deleted else "active",
            "start_time": info.get("start_time"),
            "end_time": info.get("end_time"),
            "artifact_uri": info.get("artifact_uri"),
            "parent": self.tags.get(PARENT_TAG),
            "params": _pairs(data.get("params", [])),
            "metrics": _pairs(data.get("metrics", [])),
            "tags": self.tags,
            "models": [{"id": item["model_id"], "step": item.get("step", 0)} for item in models],
            "datasets": [{key: item["dataset"].get(key) for key in ("name", "digest")} for item in datasets],
        }


@dataclass(frozen=True)
class File:
    """What a directory of the artifact store lists (`mlflow.entities.FileInfo`)."""

    name: str
    size: int | None  # None: a directory

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> File:
        return cls(answer["path"], None if answer.get("is_dir") else int(answer.get("file_size", 0)))


class Client(Http):
    """What MLflow can be asked to do. Every method raises `MlflowError`."""

    # What the server says of itself.

    def health(self) -> None:
        """Ask whether a server process answers (`mlflow.server.server_info_api.health`); no database is involved."""
        content = self.request("GET", HEALTH)
        if content.strip() != b"OK":
            raise foreign(self.server, f"{HEALTH} was answered with something other than OK{excerpt(content)}")

    def version(self) -> str:
        """MLflow's version (`mlflow.server.version`)."""
        content = self.request("GET", VERSION)
        version = content[:64].decode("ascii", "replace").strip()
        if not version[:1].isdigit() or "." not in version:
            raise foreign(self.server, f"{VERSION} was not answered with a version{excerpt(content)}")
        return version

    def server_info(self) -> dict[str, Any]:
        """What the server can do (`mlflow.server.handlers.build_server_info_payload`); empty where it is too old."""
        try:
            return self.call("GET", SERVER_INFO)
        except MlflowError as error:
            if error.status == 404:
                return {}
            raise

    # Experiments: `mlflow.server.handlers._{create,get,search,delete,restore}_experiment*`.

    def experiment(self, name: str) -> Experiment | None:
        """The experiment of that name, active or deleted."""
        answer = found(lambda: self.call("GET", f"{API}/experiments/get-by-name", experiment_name=name))
        return Experiment.of(answer["experiment"]) if answer else None

    def experiment_by_id(self, experiment_id: str) -> Experiment:
        return Experiment.of(self.call("GET", f"{API}/experiments/get", experiment_id=experiment_id)["experiment"])

    def experiments(self, *, view: str = "ACTIVE_ONLY", limit: int | None = None) -> list[Experiment]:
        """Experiments of a view (ACTIVE_ONLY, DELETED_ONLY, ALL), at most `limit`."""
        pages = self.pages("POST", f"{API}/experiments/search", "experiments", limit, view_type=view)
        return [Experiment.of(item) for item in pages]

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Mapping[str, str] | None = None
    ) -> str:
        """Make an experiment; returns its id. A name that exists, deleted or not, is RESOURCE_ALREADY_EXISTS."""
        parameters: dict[str, Any] = {"name": name}
        if artifact_location:
            parameters["artifact_location"] = artifact_location
        if tags:
            parameters["tags"] = _items(tags)
        return str(self.call("POST", f"{API}/experiments/create", **parameters)["experiment_id"])

    def delete_experiment(self, experiment_id: str) -> None:
        """Mark an experiment and its runs deleted; `mlflow gc` removes them for good."""
        self.call("POST", f"{API}/experiments/delete", experiment_id=experiment_id)

    def restore_experiment(self, experiment_id: str) -> None:
        """Make a deleted experiment and its runs active again."""
        self.call("POST", f"{API}/experiments/restore", experiment_id=experiment_id)

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        self.call("POST", f"{API}/experiments/set-experiment-tag", experiment_id=experiment_id, key=key, value=value)

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        self.call("POST", f"{API}/experiments/delete-experiment-tag", experiment_id=experiment_id, key=key)

    # Runs: `mlflow.server.handlers._{create,get,search,update,delete}_run*`, `_{set,delete}_tag`.

    def run(self, run_id: str) -> Run:
        return Run.of(self.call("GET", f"{API}/runs/get", run_id=run_id)["run"])

    def runs(
        self,
        experiment_id: str,
        *,
        filter_string: str = "",
        order_by: Sequence[str] = (),
        view: str = "ACTIVE_ONLY",
        limit: int | None = None,
    ) -> list[Run]:
        """Runs of an experiment, at most `limit`; without `order_by` the newest first."""
        wanted = {"experiment_ids": [experiment_id], "filter": filter_string, "run_view_type": view}
        pages = self.pages("POST", f"{API}/runs/search", "runs", limit, **wanted, order_by=list(order_by))
        return [Run.of(item) for item in pages]

    def create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Start a run; returns its id. Any number of runs may have one name."""
        wanted = {"experiment_id": experiment_id, "run_name": name, "start_time": _now(), "tags": _items(tags)}
        return str(self.call("POST", f"{API}/runs/create", **wanted)["run"]["info"]["run_id"])

    def set_run_status(self, run_id: str, status: str) -> None:
        """Set the status; with one other than RUNNING, the run ends now."""
        ended = {} if status == "RUNNING" else {"end_time": _now()}
        self.call("POST", f"{API}/runs/update", run_id=run_id, status=status, **ended)

    def delete_run(self, run_id: str) -> None:
        """Mark a run deleted, not its child runs; `mlflow gc` removes it for good."""
        self.call("POST", f"{API}/runs/delete", run_id=run_id)

    def set_run_tag(self, run_id: str, key: str, value: str) -> None:
        self.call("POST", f"{API}/runs/set-tag", run_id=run_id, key=key, value=value)

    def delete_run_tag(self, run_id: str, key: str) -> None:
        self.call("POST", f"{API}/runs/delete-tag", run_id=run_id, key=key)

    # Registered models: `mlflow.server.handlers._{create,get,search,update,delete}_registered_model*`.

    def models(self, *, filter_string: str = "", limit: int | None = None) -> list[dict[str, Any]]:
        """Registered models as MLflow returns them, prompts not among them, at most `limit`."""
        return list(
            self.pages("GET", f"{API}/registered-models/search", "registered_models", limit, filter=filter_string)
        )

    def create_model(self, name: str, description: str = "", tags: Mapping[str, str] | None = None) -> None:
        """Make a registered model; a name that exists is RESOURCE_ALREADY_EXISTS."""
        wanted = {"name": name, "description": description, "tags": _items(tags or {})}
        self.call("POST", f"{API}/registered-models/create", **wanted)

    def model(self, name: str) -> RegisteredModel:
        return RegisteredModel.of(self.call("GET", f"{API}/registered-models/get", name=name)["registered_model"])

    def describe_model(self, name: str, description: str) -> None:
        self.call("PATCH", f"{API}/registered-models/update", name=name, description=description)

    def delete_model(self, name: str) -> None:
        """Remove a registered model and its versions for good."""
        self.call("DELETE", f"{API}/registered-models/delete", name=name)

    def set_model_tag(self, name: str, key: str, value: str) -> None:
        self.call("POST", f"{API}/registered-models/set-tag", name=name, key=key, value=value)

    def delete_model_tag(self, name: str, key: str) -> None:
        self.call("DELETE", f"{API}/registered-models/delete-tag", name=name, key=key)

    # Their versions and aliases: `mlflow.server.handlers._*_model_version*`, `_{set,delete}_registered_model_alias`.
    # A version's number is text to MLflow.

    def model_version(self, name: str, version: int) -> ModelVersion:
        answer = self.call("GET", f"{API}/model-versions/get", name=name, version=version)
        return ModelVersion.of(answer["model_version"])

    def model_versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model. MLflow leaves their aliases out of this list."""
        wanted = {"filter": f"name = {quoted(name)}"}
        pages = self.pages("GET", f"{API}/model-versions/search", "model_versions", None, **wanted)
        return [ModelVersion.of(item) for item in pages]

    def create_model_version(self, name: str, source: str, **wanted: Any) -> int:
        """Make a version; returns its number. `wanted`: `run_id`, `model_id`, `description`, `tags`."""
        parameters = wanted | {"tags": _items(wanted.get("tags", {}))}
        answer = self.call("POST", f"{API}/model-versions/create", name=name, source=source, **parameters)
        return int(answer["model_version"]["version"])

    def describe_model_version(self, name: str, version: int, description: str) -> None:
        wanted = {"name": name, "version": str(version), "description": description}
        self.call("PATCH", f"{API}/model-versions/update", **wanted)

    def delete_model_version(self, name: str, version: int) -> None:
        """Remove a version and its aliases for good."""
        self.call("DELETE", f"{API}/model-versions/delete", name=name, version=str(version))

    def set_model_version_tag(self, name: str, version: int, key: str, value: str) -> None:
        wanted = {"name": name, "version": str(version), "key": key, "value": value}
        self.call("POST", f"{API}/model-versions/set-tag", **wanted)

    def delete_model_version_tag(self, name: str, version: int, key: str) -> None:
        self.call("DELETE", f"{API}/model-versions/delete-tag", name=name, version=str(version), key=key)

    def set_model_alias(self, name: str, alias: str, version: int) -> None:
        """Have an alias point to a version, wherever it pointed before."""
        self.call("POST", f"{API}/registered-models/alias", name=name, alias=alias, version=str(version))

    def delete_model_alias(self, name: str, alias: str) -> None:
        self.call("DELETE", f"{API}/registered-models/alias", name=name, alias=alias)

    # Artifacts through the server: `mlflow.server.handlers._{upload,download,delete,list}_artifact*`.

    def upload(self, path: str, content: bytes | BinaryIO) -> None:
        self.request("PUT", f"{ARTIFACTS}/{path}", content)

    def download(self, path: str) -> bytes:
        return self.request("GET", f"{ARTIFACTS}/{path}")

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file's content, piece by piece."""
        return self.stream(f"{ARTIFACTS}/{path}")

    def delete_artifact(self, path: str) -> None:
        """Remove a file or a directory; one that is not there is no error."""
        self.request("DELETE", f"{ARTIFACTS}/{path}")

    def files(self, path: str) -> list[File]:
        """What is in a directory of the artifact store (its root: ""); nothing where there is no such directory."""
        return [File.of(item) for item in self.call("GET", ARTIFACTS, path=path).get("files", [])]

    def artifacts(self, path: str) -> list[str]:
        """The names in a directory of the artifact store."""
        return [file.name for file in self.files(path)]


def _pairs(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Tags, parameters or metrics as a mapping; MLflow leaves out a value that is empty."""
    return {item["key"]: item.get("value", "") for item in items}


def _items(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as MLflow takes them."""
    return [{"key": key, "value": value} for key, value in tags.items()]


def _now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
