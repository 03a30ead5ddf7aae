# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a tracking server is, and what it means when it cannot be reached or says no.

The contract relied on is that of MLflow 3.17.2: `mlflow.exceptions`, `mlflow.server.{handlers,security_utils}`.
"""

from __future__ import annotations

import enum
import http.client
import json
import socket
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

# Options that every module has which speaks to one tracking server; documented in doc_fragments/mlflow.py.
_ENVIRONMENT = {
    "tracking_uri": "MLFLOW_TRACKING_URI",
    "username": "MLFLOW_TRACKING_USERNAME",
    "password": "MLFLOW_TRACKING_PASSWORD",
    "ca_path": "MLFLOW_TRACKING_SERVER_CERT_PATH",
}


class Patience(enum.IntEnum):
    """What waiting can do about a failure."""

    NONE = 0  # nothing: somebody has to change something
    SHORT = 1  # settings just made may take seconds to reach every process and proxy
    LONG = 2  # what is starting or restarting answers like this


class MlflowError(MlopsError):
    """A request that failed: `cause` says what happened, `advice` what to do, `patience` whether waiting helps.

    `code` is MLflow's own `error_code` ("RESOURCE_DOES_NOT_EXIST", ...), `status` the HTTP status, where there was one.
    """

    def __init__(
        self,
        cause: str,
        advice: str = "",
        *,
        patience: Patience = Patience.NONE,
        code: str | None = None,
        status: int | None = None,
    ) -> None:
        details = {"error_code": code, "http_status": status}
        message = f"{cause}. {advice}" if advice else cause
        super().__init__(message, **{name: value for name, value in details.items() if value is not None})
        self.cause = cause
        self.advice = advice
        self.patience = patience
        self.code = code
        self.status = status


@dataclass(frozen=True)
class Server:
    """Where a tracking server is and how to speak to it."""

    url: str
    host: str | None = None  # sent as Host header, in place of the URL's
    address: str | None = None  # connected to, in place of what the URL's host resolves to
    ca_path: str | None = None
    validate_certs: bool = True
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if "@" in self.url:
            raise MlopsError(
                "The address of a tracking server must not hold credentials, as addresses are shown: "
                "give them in `username` and `password`"
            )
        try:
            parts, port = self.parts, self.parts.port
        except ValueError as error:  # brackets that do not match, or a port that is no number from 0 to 65535
            raise MlopsError(f"{self.url!r} is not the address of a tracking server: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise MlopsError(
                f"{self.url!r} is not the address of a tracking server: it has to begin with http:// or https:// and "
                "to name a host, like http://mlflow.local or https://192.0.2.10:8443/mlflow"
            )
        if parts.query or parts.fragment:
            raise MlopsError(f"The address of a tracking server cannot have a query or a fragment: {self.url}")
        for name, value in (("host", self.host), ("address", self.address)):
            if value and (value != value.strip() or "/" in value or any(c.isspace() for c in value)):
                raise MlopsError(f"`{name}` has to be a host name or an IP address, not {value!r}")

    @property
    def parts(self) -> urllib.parse.SplitResult:
        return urllib.parse.urlsplit(self.url)

    @property
    def where(self) -> str:
        """How messages name it."""
        detail = [f"Host: {self.host}"] if self.host else []
        detail += [f"at {self.address}"] if self.address else []
        return f"{self.url} ({', '.join(detail)})" if detail else self.url

    @property
    def host_header(self) -> str:
        """What the server takes for its own name: what MLflow compares with its list of allowed hosts."""
        return self.host or self.parts.netloc

    @property
    def port(self) -> int:
        return self.parts.port or (443 if self.parts.scheme == "https" else 80)

    @property
    def peer(self) -> str:
        """What is connected to, where no proxy is between."""
        return f"{self.address or self.parts.hostname}:{self.port}"

    @property
    def proxy(self) -> str:
        """The proxy that the environment names for this server, as URL, or ''."""
        if self.address or urllib.request.proxy_bypass(self.parts.netloc):
            return ""
        proxy = urllib.request.getproxies().get(self.parts.scheme, "")
        return proxy if "://" in proxy or not proxy else f"http://{proxy}"


# Requests that got no answer: exception, cause, advice, whether waiting helps. The first that fits counts.
_FAILURES: tuple[tuple[type[Exception], str, str, Patience], ...] = (
    (
        ssl.SSLCertVerificationError,
        "the certificate was not accepted ({reason})",
        "Give the CA that signed it in `ca_path`{ca}, and have it made out to {name}",
        Patience.SHORT,
    ),
    (ssl.SSLError, "TLS failed ({reason})", "Does {peer} speak TLS? If not, use http://", Patience.SHORT),
    (
        socket.gaierror,
        "the name {target} cannot be resolved",
        "Add it to DNS or /etc/hosts, or give the IP address to connect to in `address`",
        Patience.LONG,
    ),
    (
        ConnectionRefusedError,
        "nothing listens at {peer}",
        "Is the server running, and is this the published port? `kubectl get pods,services,ingress` tells",
        Patience.LONG,
    ),
    (
        TimeoutError,
        "{peer} stayed silent",
        "A firewall, a wrong address or an overloaded server does this",
        Patience.LONG,
    ),
    (
        http.client.RemoteDisconnected,
        "{peer} closed the connection",
        "The server is restarting, or something between closes connections; its log may tell",
        Patience.LONG,
    ),
    (
        http.client.HTTPException,
        "{peer} did not answer in HTTP ({reason})",
        "If it speaks TLS, use https://; else check the port",
        Patience.SHORT,
    ),
    (
        ConnectionError,
        "{peer} closed the connection",
        "The server is restarting, or something between closes connections; its log may tell",
        Patience.LONG,
    ),
    (OSError, "{reason}", "Can {peer} be reached from here?", Patience.LONG),
)

# Answers that say no and are not MLflow's JSON: statuses, what the body holds, cause, advice, whether waiting helps.
_REFUSALS: tuple[tuple[range, bytes, str, str, Patience], ...] = (
    (
        range(403, 404),
        b"Invalid Host header",  # security_utils.INVALID_HOST_MSG
        "answered 403: MLflow does not allow the Host header {host!r}",
        "Add {bare!r} and '{bare}:*' to the role variable mlflow_allowed_hosts (MLFLOW_SERVER_ALLOWED_HOSTS)",
        Patience.SHORT,
    ),
    (
        range(503, 504),
        b"--no-serve-artifacts",  # handlers._disable_unless_serve_artifacts
        "does not serve artifacts",
        "Start the server with --serve-artifacts and --artifacts-destination",
        Patience.NONE,
    ),
    (
        range(300, 400),
        b"",
        "redirects to {location}",
        "Give the address that it redirects to",
        Patience.SHORT,
    ),
    (
        range(401, 402),
        b"",
        "answered 401: it wants a user and a password, and did not accept {credentials}",
        "Check `username` and `password`",
        Patience.NONE,
    ),
    (
        range(403, 404),
        b"",
        "answered 403{excerpt}",
        "The user lacks a permission in MLflow, or a proxy forbids the request",
        Patience.SHORT,
    ),
    (
        range(404, 405),
        b"",
        "answered 404, and it was not MLflow's API that did{excerpt}",
        "An ingress without a rule for the host {host!r} does this; so does an address without its path prefix",
        Patience.LONG,
    ),
    (
        range(407, 408),
        b"",
        "answered 407: the proxy wants credentials",
        "Put them into http_proxy or https_proxy, or add the host to no_proxy",
        Patience.NONE,
    ),
    (
        range(413, 414),
        b"",
        "answered 413: the upload is larger than a proxy allows",
        "Raise its limit (ingress-nginx: annotation nginx.ingress.kubernetes.io/proxy-body-size, 1 MiB by default)",
        Patience.SHORT,
    ),
    (range(429, 430), b"", "answered 429: too many requests", "", Patience.LONG),
    (
        range(502, 505),
        b"",
        "answered {status}{excerpt}",
        "A proxy in front of MLflow has no server to pass requests to: is the pod ready?",
        Patience.LONG,
    ),
    (range(1000), b"", "answered {status}{excerpt}", "The server's log may tell more", Patience.SHORT),
)


def failure(server: Server, error: OSError | http.client.HTTPException) -> MlflowError:
    """The error for a request that got no answer."""
    cause, advice, patience = next(row[1:] for row in _FAILURES if isinstance(error, row[0]))
    reason = (
        getattr(error, "verify_message", "")
        or getattr(error, "reason", "")
        or getattr(error, "strerror", "")
        or str(error)
        or type(error).__name__
    )
    known = {
        "reason": reason,
        "name": server.parts.hostname,
        "target": server.address or server.parts.hostname,
        "peer": server.peer,
        "ca": f" (now {server.ca_path})" if server.ca_path else "",
    }
    return MlflowError(
        f"No answer from MLflow at {server.where}{_via(server)}: {cause.format(**known)}",
        advice.format(**known),
        patience=patience,
    )


def refusal(server: Server, status: int, location: str | None, content: bytes) -> MlflowError:
    """The error for an answer with a status that says no: MLflow's own, or that of something between."""
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and "error_code" in answer:
        code = str(answer["error_code"])
        patience = Patience.LONG if status >= 500 else Patience.NONE
        return MlflowError(
            f"MLflow at {server.where} refused: {answer.get('message') or code}",
            "The server's log tells more" if status >= 500 else "",
            patience=Patience.SHORT if code == "INTERNAL_ERROR" else patience,
            code=code,
            status=status,
        )
    cause, advice, patience = next(row[2:] for row in _REFUSALS if status in row[0] and row[1] in content)
    host = server.host_header
    known = {
        "status": status,
        "excerpt": excerpt(content),
        "location": location or "another address",
        "host": host,
        "bare": host.rsplit(":", 1)[0] if not host.endswith("]") else host,
        "credentials": "none" if server.username is None else f"those of {server.username!r}",
    }
    return MlflowError(
        f"{server.where}{_via(server)} {cause.format(**known)}",
        advice.format(**known),
        patience=patience,
        status=status,
    )


def foreign(server: Server, what: str) -> MlflowError:
    """The error for an answer that MLflow would not give."""
    return MlflowError(
        f"What answers at {server.where}{_via(server)} is not MLflow: {what}",
        "Check the address, the port and the path prefix",
        patience=Patience.SHORT,
    )


def excerpt(content: bytes) -> str:
    """The beginning of an answer, for a message; '' for none."""
    text = " ".join(content[:400].decode("utf-8", "replace").split())
    return f": {text[:160]!r}" if text else ""


def _via(server: Server) -> str:
    if not server.proxy:
        return ""
    proxy = urllib.parse.urlsplit(server.proxy)
    return f" through the proxy {proxy.hostname}:{proxy.port or 80} (to go there directly, add the host to no_proxy)"


def server_of(parameters: Mapping[str, Any]) -> Server:
    """The server that a module's common options name."""
    if not parameters["tracking_uri"]:
        raise MlopsError(
            "Which tracking server? Give its address in `tracking_uri`, or in the environment as MLFLOW_TRACKING_URI"
        )
    return Server(
        url=parameters["tracking_uri"].rstrip("/"),
        host=parameters["host"],
        address=parameters["address"],
        **access_of(parameters),
    )


def access_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say how to get in, whatever the address."""
    return {name: parameters[name] for name in ("ca_path", "validate_certs", "username", "password")}


def argument_spec() -> dict[str, Any]:
    """The specification of the common options (doc fragment `mlflow`)."""
    from ansible.module_utils.basic import env_fallback  # noqa: PLC0415  the client itself does without Ansible

    spec: dict[str, dict[str, Any]] = {
        "tracking_uri": {"type": "str"},
        "host": {"type": "str"},
        "address": {"type": "str"},
        "ca_path": {"type": "path"},
        "validate_certs": {"type": "bool", "default": True},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "timeout": {"type": "float", "default": 30},
    }
    for name, variable in _ENVIRONMENT.items():
        spec[name]["fallback"] = (env_fallback, [variable])
    return spec
