# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP to one tracking server: one connection, TLS, proxies, pages, streams.

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
from contextlib import contextmanager
from typing import Any, BinaryIO, Self

from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import (
    MlflowError,
    Server,
    excerpt,
    failure,
    foreign,
    refusal,
)

# Answers are read up to here: whatever is larger is no answer of MLflow's, and nothing that we asked for.
_ANSWER_LIMIT = 64 * 1024 * 1024
_PIECE = 1024 * 1024  # of what is streamed
_PAGE = 1000  # `SEARCH_MAX_RESULTS_THRESHOLD` for models and experiments alike


class Http:
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
        body: bytes | BinaryIO | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> bytes:
        """The body of the answer to one request; anything but a status of 200 to 299 is an error.

        A file is sent piece by piece.
        """
        with self._answer(method, path, body, query, content_type) as response:
            return response.read(_ANSWER_LIMIT)

    def stream(self, path: str) -> Iterator[bytes]:
        """The body of the answer to a GET, piece by piece, however large it is."""
        with self._answer("GET", path) as response:
            while piece := response.read(_PIECE):
                yield piece
            if response.length:  # `read` does not tell that the rest is missing
                raise ConnectionResetError(f"{response.length} bytes are missing")

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

    def pages(self, method: str, path: str, key: str, limit: int | None, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The items of a list that MLflow returns page by page, at most `limit`."""
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

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to one request, to be read inside the block; the connection is kept where all of it was read."""
        target = self._base + urllib.parse.quote(path)
        if query:
            target += "?" + urllib.parse.urlencode(query)
        if self._proxy and self.server.parts.scheme == "http":
            target = f"http://{self.server.parts.netloc}{target}"
        response = None
        try:
            response = self._send(method, target, body, content_type)
            if not 200 <= response.status < 300:
                location = response.headers.get("Location")
                raise refusal(self.server, response.status, location, response.read(_ANSWER_LIMIT))
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise failure(self.server, error) from error
        finally:
            if response is None or response.will_close or not response.isclosed():
                self.close()

    def _send(
        self, method: str, target: str, body: bytes | BinaryIO | None, content_type: str
    ) -> http.client.HTTPResponse:
        connection = self._connect()
        headers = self._headers | ({"Content-Type": content_type} if body is not None else {})
        if body is not None and not isinstance(body, bytes):
            headers["Content-Length"] = str(os.fstat(body.fileno()).st_size)  # else it is sent in chunks
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
        response.will_close = response.will_close or broken is not None
        return response

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
