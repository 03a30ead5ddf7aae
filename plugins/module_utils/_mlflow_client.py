# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thin client of MLflow's REST API, and what its failures mean to an operator.

The contract relied on is that of MLflow 3.17.2: the routes of `mlflow.server`, `mlflow.server.handlers` and
`mlflow.server.server_info_api`, the errors of `mlflow.exceptions`, the host check of `mlflow.server.fastapi_security`.
The `mlflow` package itself is not imported: that takes 1.7 s, a whole check with this client takes 0.1 s.

`http.client` is used instead of `ansible.module_utils.urls`, which opens a connection for each request and cannot be
told to connect to one address while it speaks to another (`curl --resolve`). As there, `http_proxy`, `https_proxy` and
`no_proxy` are heeded, except where `address` says where to connect.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import (
    MlflowError,
    Server,
    excerpt,
    failure,
    foreign,
    refusal,
)

HEALTH = "/health"
VERSION = "/version"
SERVER_INFO = "/api/3.0/mlflow/server-info"
API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"

# Answers are read up to here: whatever is larger is no answer of MLflow's, and nothing that we asked for.
_ANSWER_LIMIT = 64 * 1024 * 1024
_PAGE = 1000  # `SEARCH_MAX_RESULTS_THRESHOLD` for models and experiments alike


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
            tags={tag["key"]: tag.get("value", "") for tag in answer.get("tags", [])},
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


class Client:
    """Requests to one tracking server over one connection, which is made when first needed.

    Every method raises `MlflowError`. Use it as a context manager, or `close` it.
    """

    def __init__(self, server: Server, timeout: float = 30.0) -> None:
        self.server = server
        self.timeout = timeout  # seconds that a single read or write may take
        self._connection: http.client.HTTPConnection | None = None
        self._proxy = server.proxy
        self._base = server.parts.path.rstrip("/")
        self._headers = {"Host": server.host_header, "User-Agent": "mlops.mlflow", "Accept": "*/*"}
        if server.username is not None:
            self._headers["Authorization"] = "Basic " + _basic(server.username, server.password or "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> bytes:
        """The body of the answer to one request; anything but a status of 200 to 299 is an error."""
        target = self._base + urllib.parse.quote(path)
        if query:
            target += "?" + urllib.parse.urlencode(query)
        try:
            connection = self._connect()
            headers = self._headers | ({"Content-Type": content_type} if body is not None else {})
            if self._proxy and self.server.parts.scheme == "http":
                target = f"http://{self.server.parts.netloc}{target}"
            broken: OSError | None = None
            try:
                connection.request(method, target, body, headers)
                _acknowledge_at_once(connection)
            except (BrokenPipeError, ConnectionResetError) as error:
                broken = error  # a proxy may answer (413) and close before it has read all
            try:
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise broken or error from error
            content = response.read(_ANSWER_LIMIT)
            if broken or response.will_close:
                self.close()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise failure(self.server, error) from error
        if not 200 <= response.status < 300:
            raise refusal(self.server, response.status, response.headers.get("Location"), content)
        return content

    def call(self, method: str, route: str, **parameters: Any) -> dict[str, Any]:
        """MLflow's JSON answer to a call; `parameters` become the query of a GET, else the body."""
        if method == "GET":
            content = self.request(method, route, query=parameters)
        else:
            content = self.request(method, route, json.dumps(parameters).encode(), content_type="application/json")
        try:
            answer = json.loads(content or b"{}")
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise foreign(
                self.server, f"{method} {route} was answered with something that is not JSON{excerpt(content)}"
            )
        return answer

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
        try:
            answer = self.call("GET", f"{API}/experiments/get-by-name", experiment_name=name)
        except MlflowError as error:
            if error.code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return Experiment.of(answer["experiment"])

    def experiment_by_id(self, experiment_id: str) -> Experiment:
        return Experiment.of(self.call("GET", f"{API}/experiments/get", experiment_id=experiment_id)["experiment"])

    def experiments(self, *, view: str = "ACTIVE_ONLY", limit: int | None = None) -> list[Experiment]:
        """Experiments of a view (ACTIVE_ONLY, DELETED_ONLY, ALL), at most `limit`."""
        pages = self._pages("POST", f"{API}/experiments/search", "experiments", limit, view_type=view)
        return [Experiment.of(item) for item in pages]

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Mapping[str, str] | None = None
    ) -> str:
        """Make an experiment; returns its id. A name that exists, deleted or not, is RESOURCE_ALREADY_EXISTS."""
        parameters: dict[str, Any] = {"name": name}
        if artifact_location:
            parameters["artifact_location"] = artifact_location
        if tags:
            parameters["tags"] = [{"key": key, "value": value} for key, value in tags.items()]
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

    # Registered models: `mlflow.server.handlers._{create,get,search,delete}_registered_model*`.

    def models(self, *, filter_string: str = "", limit: int | None = None) -> list[dict[str, Any]]:
        """Registered models as MLflow returns them, prompts not among them, at most `limit`."""
        return list(
            self._pages("GET", f"{API}/registered-models/search", "registered_models", limit, filter=filter_string)
        )

    def create_model(self, name: str, description: str = "") -> None:
        self.call("POST", f"{API}/registered-models/create", name=name, description=description)

    def model(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("GET", f"{API}/registered-models/get", name=name)["registered_model"]
        return answer

    def delete_model(self, name: str) -> None:
        """Remove a registered model and its versions for good."""
        self.call("DELETE", f"{API}/registered-models/delete", name=name)

    # Artifacts through the server: `mlflow.server.handlers._{upload,download,delete,list}_artifact*`.

    def upload(self, path: str, content: bytes) -> None:
        self.request("PUT", f"{ARTIFACTS}/{path}", content)

    def download(self, path: str) -> bytes:
        return self.request("GET", f"{ARTIFACTS}/{path}")

    def delete_artifact(self, path: str) -> None:
        """Remove a file or a directory; one that is not there is no error."""
        self.request("DELETE", f"{ARTIFACTS}/{path}")

    def artifacts(self, path: str) -> list[str]:
        """Names in a directory of the artifact store; none where there is no such directory."""
        return [item["path"] for item in self.call("GET", ARTIFACTS, path=path).get("files", [])]

    def _pages(
        self, method: str, path: str, key: str, limit: int | None, **parameters: Any
    ) -> Iterator[dict[str, Any]]:
        remaining = limit
        token = ""
        while remaining is None or remaining > 0:
            size = _PAGE if remaining is None else min(_PAGE, remaining)
            page = {"page_token": token} if token else {}
            answer = self.call(method, path, max_results=size, **page, **parameters)
            items = answer.get(key, [])
            yield from items
            token = answer.get("next_page_token", "")
            if not token:
                return
            remaining = None if remaining is None else remaining - len(items)

    # The connection.

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = self._make_connection()
        return self._connection

    def _make_connection(self) -> http.client.HTTPConnection:
        server, host, port = self.server, self.server.parts.hostname or "", self.server.port
        proxy = urllib.parse.urlsplit(self._proxy)
        via = (proxy.hostname or "", proxy.port or 80)
        permit = {"Proxy-Authorization": f"Basic {_basic(proxy.username, proxy.password)}"} if proxy.username else {}
        if server.parts.scheme == "http":
            if self._proxy:
                self._headers |= permit
                return http.client.HTTPConnection(*via, timeout=self.timeout)
            return _PlainConnection(host, port, server.address, self.timeout)
        context = _tls(server)
        if self._proxy:
            tunnel = http.client.HTTPSConnection(*via, timeout=self.timeout, context=context)
            tunnel.set_tunnel(host, port, permit)
            return tunnel
        return _TlsConnection(host, port, server.address, self.timeout, context)


class _PlainConnection(http.client.HTTPConnection):
    """HTTP to `address`, or to where the host's name resolves to."""

    def __init__(self, host: str, port: int, address: str | None, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._address = address or host

    def connect(self) -> None:
        self.sock = _open((self._address, self.port), self.timeout)


class _TlsConnection(http.client.HTTPSConnection):
    """HTTPS to `address`, or to where the host's name resolves to; the certificate is the host's in either case."""

    def __init__(self, host: str, port: int, address: str | None, timeout: float, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._address = address or host
        self._tls = context

    def connect(self) -> None:
        plain = _open((self._address, self.port), self.timeout)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def _open(peer: tuple[str, int], timeout: float | None) -> socket.socket:
    connection = socket.create_connection(peer, timeout)
    # Headers and body leave in two writes: without this the second one waits for the first one's acknowledgement.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _acknowledge_at_once(connection: http.client.HTTPConnection) -> None:
    """Spare 40 ms an answer: MLflow's server sends headers and body apart, and the body waits for an acknowledgement.

    The kernel takes the option back by itself (tcp(7), TCP_QUICKACK), so that it is set for every request; Linux only.
    """
    if connection.sock is not None and hasattr(socket, "TCP_QUICKACK"):
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _tls(server: Server) -> ssl.SSLContext:
    if server.ca_path and not os.path.isfile(server.ca_path):
        raise MlflowError(f"There is no CA bundle {server.ca_path}", "Give a file of certificates in PEM in `ca_path`")
    try:
        context = ssl.create_default_context(cafile=server.ca_path)
    except (ssl.SSLError, OSError) as error:
        raise MlflowError(
            f"The CA bundle {server.ca_path} cannot be used ({error})", "It has to hold certificates in PEM"
        ) from error
    if not server.validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _basic(username: str | None, password: str | None) -> str:
    return base64.b64encode(f"{username or ''}:{password or ''}".encode()).decode("ascii")
