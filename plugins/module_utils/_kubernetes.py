# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a Kubernetes API server: which cluster is meant, and how it is asked.

The requests are those of https://kubernetes.io/docs/reference/using-api/api-concepts/, over the connection that the
Python client of Kubernetes makes of a kubeconfig. What the roles need is a handful of requests on a dozen kinds, whose
paths are known without asking the server for them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

# Every kind that the roles make, with the path of its list.
KINDS = {
    "Namespace": "/api/v1/namespaces",
    "PersistentVolume": "/api/v1/persistentvolumes",
    "PersistentVolumeClaim": "/api/v1/persistentvolumeclaims",
    "ConfigMap": "/api/v1/configmaps",
    "Secret": "/api/v1/secrets",
    "Service": "/api/v1/services",
    "ServiceAccount": "/api/v1/serviceaccounts",
    "Deployment": "/apis/apps/v1/deployments",
    "Job": "/apis/batch/v1/jobs",
    "CronJob": "/apis/batch/v1/cronjobs",
    "Ingress": "/apis/networking.k8s.io/v1/ingresses",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/networkpolicies",
}
CONNECT_TIMEOUT, READ_TIMEOUT = 4, 10  # seconds
JSON = "application/json"
APPLY = "application/apply-patch+yaml"


class UnreachableError(MlopsError):
    """There is no cluster to ask: no kubeconfig, no such context, or nobody answers."""


class ApiError(MlopsError):
    """The API server answered with an HTTP status that is not a success."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status=status)
        self.status = status


def object_path(kind: str, name: str, namespace: str | None) -> str:
    """The path of one object; an object of the cluster has no namespace. MlopsError for a kind that is not known."""
    if kind not in KINDS:
        raise MlopsError(f"{kind} is not among the kinds that this collection applies: {', '.join(KINDS)}.")
    prefix, plural = KINDS[kind].rsplit("/", 1)
    return f"{prefix}/namespaces/{namespace}/{plural}/{name}" if namespace else f"{prefix}/{plural}/{name}"


def kubeconfig_files(kubeconfig: str | None, environment: Mapping[str, str]) -> list[Path]:
    """The kubeconfig files that exist, by kubectl's rules; raises UnreachableError where there is none."""
    wanted = kubeconfig or environment.get("KUBECONFIG") or "~/.kube/config"
    files = [Path(name).expanduser() for name in wanted.split(os.pathsep) if name]
    found = [file for file in files if file.is_file()]
    if not found:
        raise UnreachableError(
            f"There is no kubeconfig at {' or '.join(map(str, files))}: start the cluster first,"
            " or name its kubeconfig in `kubeconfig` or in the environment variable KUBECONFIG.",
            kubeconfig=wanted,
        )
    return found


def choose_context(wanted: str | None, known: list[str], current: str | None, source: str) -> str:
    """The context to use; raises UnreachableError with the known ones where `wanted` is not among them."""
    context = wanted or current
    listing = ", ".join(sorted(known)) or "none"
    if not context:
        raise UnreachableError(f"{source} has no current context: name one in `context`. There are: {listing}.")
    if context not in known:
        raise UnreachableError(
            f"There is no context {context!r} in {source}: start the cluster that makes it, or name another one."
            f" There are: {listing}.",
            contexts=sorted(known),
        )
    return context


@dataclass(frozen=True)
class Connection:
    """A way to ask the API server of one context."""

    context: str
    server: str
    api: Any
    """kubernetes.client.ApiClient, which has no types."""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        accept: str = JSON,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        read_timeout: float = READ_TIMEOUT,
    ) -> Any:
        """The answer's stream (urllib3). Raises ApiError for an HTTP error, UnreachableError for no answer."""
        import kubernetes  # noqa: PLC0415
        import urllib3  # noqa: PLC0415

        try:
            return self.api.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(CONNECT_TIMEOUT, read_timeout),
            )
        except kubernetes.client.ApiException as error:
            if error.status:
                said = refusal(error.status, error.reason, error.body, f"{method} {path}", self.context)
                raise ApiError(said, error.status) from error
            raise unreachable(self.server, self.context, error.reason) from error  # TLS
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(self.server, self.context, error) from error

    def read(self, method: str, path: str, **options: Any) -> bytes:
        """The whole answer; options and errors as for `request`."""
        import urllib3  # noqa: PLC0415

        try:
            data: bytes = self.request(method, path, **options).data
        except urllib3.exceptions.HTTPError as error:  # the server went away in the middle of its answer
            raise unreachable(self.server, self.context, error) from error
        return data

    def json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The answer's JSON; options and errors as for `request`."""
        try:
            answer: dict[str, Any] = json.loads(self.read(method, path, **options))
        except ValueError as error:
            raise unreachable(self.server, self.context, "the answer is not JSON") from error
        return answer

    def find(self, kind: str, name: str, namespace: str | None) -> dict[str, Any] | None:
        """The object; None where there is none."""
        try:
            return self.json("GET", object_path(kind, name, namespace))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def watch(self, kind: str, name: str, namespace: str, version: str, seconds: float) -> Iterator[dict[str, Any]]:
        """The object each time it changes after the resource version `version`, until `seconds` are over."""
        import urllib3  # noqa: PLC0415

        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        path = object_path(kind, name, namespace).rsplit("/", 1)[0]
        stream = self.request("GET", path, query=query, read_timeout=seconds + READ_TIMEOUT)
        try:
            for line in stream:
                event = json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED"):
                    yield event["object"]
        except urllib3.exceptions.HTTPError:
            return  # the API server went away; who waits asks again
        finally:
            stream.release_conn()


def connect(kubeconfig: str | None, context: str | None, environment: Mapping[str, str]) -> Connection:
    """Prepare the connection with the Python client of Kubernetes; nothing is sent yet."""
    try:
        import kubernetes  # noqa: PLC0415 (half a second, where the main process has not loaded it)
    except ImportError as error:
        advice = "The Python package kubernetes is missing beside Ansible: install it with pip install kubernetes."
        raise MlopsError(advice) from error
    files = kubeconfig_files(kubeconfig, environment)

    source = os.pathsep.join(map(str, files))
    configuration = kubernetes.client.Configuration()
    try:
        merged = kubernetes.config.kube_config.KubeConfigMerger(source).config.value
        names = [str(entry["name"]) for entry in merged.get("contexts") or []]
        chosen = choose_context(context, names, merged.get("current-context"), source)
        kubernetes.config.load_kube_config(source, chosen, configuration, persist_config=False)
    except MlopsError:
        raise
    except Exception as error:  # whatever a malformed file makes the client and its YAML parser trip over
        raise UnreachableError(f"The kubeconfig {source} cannot be used: {error}", kubeconfig=source) from error
    configuration.retries = False
    # kubernetes 34.1 reads NO_PROXY and then forgets it (client/configuration.py).
    configuration.no_proxy = environment.get("no_proxy") or environment.get("NO_PROXY")
    return Connection(chosen, configuration.host, kubernetes.client.ApiClient(configuration))


def unreachable(server: str, context: str, reason: object) -> UnreachableError:
    """The error for an API server that does not answer."""
    text = re.sub(r"<[^>]*object at 0x[0-9a-f]+>:? ?|HTTPS?ConnectionPool\([^)]*\): ", "", str(reason)).strip()
    return UnreachableError(
        f"The API server {server} of context {context!r} cannot be reached: {text}. Start the cluster"
        " (`minikube status` tells of Minikube), or correct `kubeconfig` and `context`.",
        server=server,
    )


def refusal(status: int, reason: str, body: str | bytes | None, asked: str, context: str) -> str:
    """What to tell of an answer that is an error: the API server's own words where it has any (a `Status` object)."""
    try:
        said = json.loads(body or "").get("message", "")
    except (ValueError, AttributeError):
        said = ""
    advice = {
        401: "the credentials of the context are not valid (any longer)",
        403: "the context's user lacks the right to do this",
        422: "a value in it is not valid",
    }.get(status, "the API server is perhaps still starting: try again" if status >= 500 else "see the server's words")
    words = f"{said} ({advice})" if said else advice
    return f"The API server of context {context!r} answered {status} {reason} for {asked}: {words}."
