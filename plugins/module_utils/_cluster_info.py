# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles need to know of a Kubernetes cluster, asked for in one go.

Only metadata of the instance's objects is asked for, so that no Secret's content travels or is kept.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import MINIMUM_KUBERNETES

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "instance": {"type": "str", "default": "mlflow"},
    "ignore_unreachable": {"type": "bool", "default": False},
}

# Every kind that the roles make, with the path of its list (https://kubernetes.io/docs/reference/using-api/api-concepts/).
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
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
CONNECT_TIMEOUT, READ_TIMEOUT = 4, 10  # seconds
IP_TYPES = ("InternalIP", "ExternalIP")

Get = Callable[[str, str, str], dict[str, Any]]
"""Path, label selector and Accept header give the answer's JSON; raises ApiError or UnreachableError."""


class UnreachableError(MlopsError):
    """There is no cluster to ask: no kubeconfig, no such context, or nobody answers."""


class ApiError(MlopsError):
    """The API server answered with an HTTP status that is not a success."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status=status)
        self.status = status


# --- Finding the cluster ---------------------------------------------------------------------------------------------


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
    get: Get


def connect(kubeconfig: str | None, context: str | None, environment: Mapping[str, str]) -> Connection:
    """Prepare the connection with the Python client of Kubernetes; nothing is sent yet."""
    files = kubeconfig_files(kubeconfig, environment)
    import kubernetes  # noqa: PLC0415 (it takes half a second, and the module says so where it is missing)
    import urllib3  # noqa: PLC0415

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
    api = kubernetes.client.ApiClient(configuration)

    def get(path: str, selector: str, accept: str) -> dict[str, Any]:
        query = [("labelSelector", selector)] if selector else []
        try:
            answer = api.call_api(
                path,
                "GET",
                query_params=query,
                header_params={"Accept": accept},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            )
            result: dict[str, Any] = json.loads(answer.data)
        except kubernetes.client.ApiException as error:
            if error.status:
                raise ApiError(refusal(error.status, error.reason, path, chosen), error.status) from error
            raise unreachable(configuration.host, chosen, error.reason) from error  # TLS
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(configuration.host, chosen, error) from error
        except ValueError as error:
            raise unreachable(configuration.host, chosen, "the answer is not JSON") from error
        return result

    return Connection(chosen, configuration.host, get)


def unreachable(server: str, context: str, reason: object) -> UnreachableError:
    """The error for an API server that does not answer."""
    text = re.sub(r"<[^>]*object at 0x[0-9a-f]+>:? ?|HTTPS?ConnectionPool\([^)]*\): ", "", str(reason)).strip()
    return UnreachableError(
        f"The API server {server} of context {context!r} cannot be reached: {text}. Start the cluster"
        " (`minikube status` tells of Minikube), or correct `kubeconfig` and `context`.",
        server=server,
    )


def refusal(status: int, reason: str, path: str, context: str) -> str:
    """What to tell of an answer that is an error."""
    advice = {
        401: "the credentials of the context are not valid (any longer)",
        403: "the context's user lacks the right to list this in the whole cluster",
    }.get(status, "the API server is perhaps still starting: try again")
    return f"The API server of context {context!r} answered {status} {reason} for {path}: {advice}."


# --- Reading the answers ---------------------------------------------------------------------------------------------


def parse_version(version: Mapping[str, Any]) -> str:
    """The version such as v1.34.4; raises MlopsError where it is too old for the roles."""
    text = str(version.get("gitVersion", ""))
    match = re.match(r"v(\d+)\.(\d+)", text)
    if not match:
        raise MlopsError(f"The API server's answer for its version is not one of Kubernetes: {dict(version)}.")
    if (int(match[1]), int(match[2])) < MINIMUM_KUBERNETES:
        minimum = ".".join(map(str, MINIMUM_KUBERNETES))
        raise MlopsError(f"Kubernetes {text} is too old: {minimum} or newer is needed. Upgrade the cluster.")
    return text


def describe_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node's name, IP addresses (internal first), readiness and the label that node affinity uses."""
    status = node.get("status", {})
    addresses = [
        entry["address"] for wanted in IP_TYPES for entry in status.get("addresses") or [] if entry["type"] == wanted
    ]
    metadata = node["metadata"]
    return {
        "name": metadata["name"],
        "addresses": list(dict.fromkeys(addresses)),
        "ready": any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in status.get("conditions") or []
        ),
        "hostname_label": metadata.get("labels", {}).get("kubernetes.io/hostname", metadata["name"]),
    }


def describe_ingress_class(ingress_class: Mapping[str, Any]) -> dict[str, Any]:
    """An IngressClass's name and controller, and whether it is the cluster's default."""
    metadata = ingress_class["metadata"]
    annotations = metadata.get("annotations") or {}
    return {
        "name": metadata["name"],
        "controller": ingress_class.get("spec", {}).get("controller", ""),
        "default": annotations.get("ingressclass.kubernetes.io/is-default-class") == "true",
    }


def node_ports(services: list[dict[str, Any]]) -> dict[str, str]:
    """The node ports that are taken, as text, with the Service (namespace/name) that has each."""
    return {
        str(port["nodePort"]): f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        for service in services
        for port in service.get("spec", {}).get("ports") or []
        if port.get("nodePort")
    }


def describe_object(kind: str, metadata: Mapping[str, Any]) -> dict[str, str]:
    """What identifies an object; an object without a namespace has an empty one."""
    path = KINDS[kind].split("/")
    return {
        "apiVersion": path[2] if path[1] == "api" else f"{path[2]}/{path[3]}",
        "kind": kind,
        "name": metadata["name"],
        "namespace": metadata.get("namespace", ""),
        "component": metadata.get("labels", {}).get("app.kubernetes.io/component", ""),
    }


def service_endpoint(service: Mapping[str, Any], node_address: str) -> dict[str, str] | None:
    """Where a Service is published outside the cluster: its load balancer, else its node port; None for neither."""
    spec, status = service.get("spec", {}), service.get("status", {})
    port = (spec.get("ports") or [{}])[0]
    for balancer in status.get("loadBalancer", {}).get("ingress") or []:
        host = balancer.get("ip") or balancer["hostname"]
        return {"name": "service", "url": f"http://{host}:{port['port']}"}
    if port.get("nodePort") and node_address:
        # With an address, clients ask the node itself and not a workstation's proxy.
        return {"name": "service", "url": f"http://{node_address}:{port['nodePort']}", "address": node_address}
    return None


def ingress_endpoint(ingress: Mapping[str, Any], node_address: str) -> dict[str, str] | None:
    """The URL of an Ingress's first host, with the address that its controller is reached at.

    That is the load balancer that the controller wrote into the status, else the node, where Minikube's controllers
    listen.
    """
    spec = ingress.get("spec", {})
    hosts = [rule["host"] for rule in spec.get("rules") or [] if rule.get("host")]
    if not hosts:
        return None
    balancers = ingress.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    addresses = [balancer["ip"] for balancer in balancers if balancer.get("ip")]
    scheme = "https" if spec.get("tls") else "http"
    return {"name": "ingress", "url": f"{scheme}://{hosts[0]}", "address": (addresses or [node_address])[0]}


def labels(instance: str) -> dict[str, str]:
    """The labels that all objects of an instance carry."""
    values = {"part-of": "mlflow", "instance": instance, "managed-by": "mlops.mlflow"}
    return {f"app.kubernetes.io/{name}": value for name, value in values.items()}


def selector(instance: str) -> str:
    """The label selector for all objects of an instance."""
    return ",".join(f"{name}={value}" for name, value in labels(instance).items())


def belongs(metadata: Mapping[str, Any], instance: str) -> bool:
    """Whether the object with this metadata is one of the instance's."""
    return labels(instance).items() <= (metadata.get("labels") or {}).items()


NOTHING: dict[str, Any] = {
    "reachable": False,
    "context": "",
    "server": "",
    "version": "",
    "nodes": [],
    "ingress_classes": [],
    "node_ports": {},
    "objects": [],
    "endpoints": [],
    "reason": "",
}


def collect(connection: Connection, instance: str) -> dict[str, Any]:
    """All result keys. The first question is asked alone, so that a dead server costs one timeout."""
    get = connection.get
    version = parse_version(get("/version", "", "application/json"))
    with ThreadPoolExecutor(8) as pool:

        def items(path: str, chosen: str = "", accept: str = "application/json") -> Callable[[], list[dict[str, Any]]]:
            future = pool.submit(get, path, chosen, accept)
            return lambda: future.result()["items"] or []

        nodes = items("/api/v1/nodes")
        classes = items("/apis/networking.k8s.io/v1/ingressclasses")
        services = items("/api/v1/services")
        ingresses = items(KINDS["Ingress"], selector(instance))
        objects = {kind: items(path, selector(instance), METADATA_ONLY) for kind, path in KINDS.items()}
        described_nodes = [describe_node(node) for node in nodes()]
        node_address = next((address for node in described_nodes for address in node["addresses"]), "")
        own_services = [each for each in services() if belongs(each["metadata"], instance)]
        endpoints = [service_endpoint(each, node_address) for each in own_services]
        endpoints += [ingress_endpoint(each, node_address) for each in ingresses()]
        return NOTHING | {
            "reachable": True,
            "context": connection.context,
            "server": connection.server,
            "version": version,
            "nodes": described_nodes,
            "ingress_classes": [describe_ingress_class(each) for each in classes()],
            "node_ports": node_ports(services()),
            "objects": [describe_object(kind, each["metadata"]) for kind, found in objects.items() for each in found()],
            "endpoints": [endpoint for endpoint in endpoints if endpoint],
        }


def cluster_info(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The module's work; raises MlopsError, or tells why where `ignore_unreachable` is set."""
    try:
        connection = connect(parameters["kubeconfig"], parameters["context"], os.environ)
        return collect(connection, parameters["instance"])
    except UnreachableError as error:
        if parameters["ignore_unreachable"]:
            return NOTHING | {"reason": error.message}
        raise
