# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles need to know of a Kubernetes cluster, asked for in one go.

Only metadata of the instance's objects is asked for, so that no Secret's content travels or is kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes import (
    JSON,
    KINDS,
    Connection,
    UnreachableError,
    connect,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import MINIMUM_KUBERNETES

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "instance": {"type": "str", "default": "mlflow"},
    "ignore_unreachable": {"type": "bool", "default": False},
}

SERVER = "tracking-server"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
IP_TYPES = ("InternalIP", "ExternalIP")
# Of what an instance publishes, these are MLflow; a notebook beside it is not.
SERVER_COMPONENTS = frozenset({SERVER, "ingress"})


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


def component(metadata: Mapping[str, Any]) -> str:
    """The part of an instance that the object with this metadata belongs to; empty where it does not say."""
    return str((metadata.get("labels") or {}).get("app.kubernetes.io/component", ""))


def describe_object(kind: str, metadata: Mapping[str, Any]) -> dict[str, str]:
    """What identifies an object; an object without a namespace has an empty one."""
    path = KINDS[kind].split("/")
    return {
        "apiVersion": path[2] if path[1] == "api" else f"{path[2]}/{path[3]}",
        "kind": kind,
        "name": metadata["name"],
        "namespace": metadata.get("namespace", ""),
        "component": component(metadata),
    }


def mlflow_version(deployments: Iterable[Mapping[str, Any]]) -> str:
    """The MLflow version that the tracking server's Deployment names in its pods' labels; empty for none."""
    templates = [each["spec"]["template"] for each in deployments if component(each["metadata"]) == SERVER]
    return next((template["metadata"]["labels"].get("app.kubernetes.io/version", "") for template in templates), "")


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
    "mlflow_version": "",
    "endpoints": [],
    "reason": "",
}


def collect(connection: Connection, instance: str) -> dict[str, Any]:
    """All result keys. The first question is asked alone, so that a dead server costs one timeout."""
    version = parse_version(connection.json("GET", "/version"))
    with ThreadPoolExecutor(8) as pool:

        def items(path: str, chosen: str = "", accept: str = JSON) -> Callable[[], list[dict[str, Any]]]:
            query = {"labelSelector": chosen} if chosen else {}
            future = pool.submit(connection.json, "GET", path, query=query, accept=accept)
            return lambda: future.result()["items"] or []

        nodes = items("/api/v1/nodes")
        classes = items("/apis/networking.k8s.io/v1/ingressclasses")
        services = items("/api/v1/services")
        # Of an Ingress the hosts are needed too, of a Deployment the version; the Services are all there already.
        listed = {
            kind: items(path, selector(instance), JSON if kind in ("Ingress", "Deployment") else METADATA_ONLY)
            for kind, path in KINDS.items()
            if kind != "Service"
        }
        described_nodes = [describe_node(node) for node in nodes()]
        node_address = next((address for node in described_nodes for address in node["addresses"]), "")
        objects = {kind: found() for kind, found in listed.items()}
        objects["Service"] = [each for each in services() if belongs(each["metadata"], instance)]
        endpoints = [
            endpoint(each, node_address)
            for kind, endpoint in (("Service", service_endpoint), ("Ingress", ingress_endpoint))
            for each in objects[kind]
            if component(each["metadata"]) in SERVER_COMPONENTS
        ]
        return NOTHING | {
            "reachable": True,
            "context": connection.context,
            "server": connection.server,
            "version": version,
            "nodes": described_nodes,
            "ingress_classes": [describe_ingress_class(each) for each in classes()],
            "node_ports": node_ports(services()),
            "objects": [describe_object(kind, each["metadata"]) for kind, found in objects.items() for each in found],
            "mlflow_version": mlflow_version(objects["Deployment"]),
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
