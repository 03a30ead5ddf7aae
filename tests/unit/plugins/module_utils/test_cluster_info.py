"""cluster_info's reading of answers, and what it says where there is no cluster to ask."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _cluster_info as cluster
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

NODE = {
    "metadata": {"name": "minikube", "labels": {"kubernetes.io/hostname": "host-1"}},
    "status": {
        "addresses": [
            {"type": "Hostname", "address": "minikube"},
            {"type": "ExternalIP", "address": "203.0.113.7"},
            {"type": "InternalIP", "address": "192.168.49.2"},
        ],
        "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
    },
}
ANSWERS: dict[str, Any] = {
    "/version": {"gitVersion": "v1.34.4"},
    "/api/v1/nodes": {"items": [NODE]},
    "/apis/networking.k8s.io/v1/ingressclasses": {
        "items": [
            {
                "metadata": {
                    "name": "traefik",
                    "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"},
                },
                "spec": {"controller": "traefik.io/ingress-controller"},
            },
            {"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}},
        ]
    },
    "/api/v1/services": {
        "items": [
            {"metadata": {"namespace": "a", "name": "b"}, "spec": {"ports": [{"port": 1, "nodePort": 30080}]}},
            {"metadata": {"namespace": "a", "name": "c"}, "spec": {"type": "ExternalName"}},
        ]
    },
    "/apis/apps/v1/deployments": {
        "items": [
            {
                "metadata": {
                    "name": "mlflow",
                    "namespace": "team",
                    "labels": {"app.kubernetes.io/component": "tracking-server"},
                },
                "spec": {"template": {"metadata": {"labels": {"app.kubernetes.io/version": "3.17.2"}}}},
            }
        ]
    },
    "/api/v1/namespaces": {"items": [{"metadata": {"name": "team"}}]},
}

Server = Callable[[dict[str, Any]], tuple[str, list[tuple[str, str, str]]]]


@pytest.fixture
def api_server() -> Iterator[Server]:
    """Serves given answers on plain HTTP; gives the URL and the list of (path, selector, Accept) asked for."""
    servers = []

    def serve(answers: dict[str, Any]) -> tuple[str, list[tuple[str, str, str]]]:
        asked: list[tuple[str, str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                asked.append((url.path, parse_qs(url.query).get("labelSelector", [""])[0], self.headers["Accept"]))
                metadata = "PartialObjectMetadata" in self.headers["Accept"]
                answer = answers.get(url.path, {"items": []})
                if metadata and url.path == "/api/v1/services":
                    answer = {"items": []}
                status = answer if isinstance(answer, int) else 200
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", asked

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def kubeconfig(path: Path, server: str, current: str = "one") -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": "c", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("one", "two")],
    }
    path.write_text(json.dumps(config))
    return str(path)


def ask(kubeconfig: str | None, context: str | None = "two", *, ignore_unreachable: bool = False) -> dict[str, Any]:
    return cluster.cluster_info(
        {
            "kubeconfig": kubeconfig,
            "context": context,
            "instance": "team",
            "ignore_unreachable": ignore_unreachable,
        }
    )


def test_everything_is_collected(api_server: Server, tmp_path: Path) -> None:
    url, asked = api_server(ANSWERS)
    result = ask(kubeconfig(tmp_path / "config", url))
    assert result == {
        "reachable": True,
        "reason": "",
        "context": "two",
        "server": url,
        "version": "v1.34.4",
        "nodes": [
            {
                "name": "minikube",
                "addresses": ["192.168.49.2", "203.0.113.7"],
                "ready": True,
                "hostname_label": "host-1",
            }
        ],
        "ingress_classes": [
            {"name": "traefik", "controller": "traefik.io/ingress-controller", "default": True},
            {"name": "nginx", "controller": "k8s.io/ingress-nginx", "default": False},
        ],
        "node_ports": {"30080": "a/b"},
        "endpoints": [],
        "objects": [
            {"apiVersion": "v1", "kind": "Namespace", "name": "team", "namespace": "", "component": ""},
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": "mlflow",
                "namespace": "team",
                "component": "tracking-server",
            },
        ],
        "mlflow_version": "3.17.2",
    }
    secrets = [request for request in asked if request[0] == "/api/v1/secrets"]
    assert secrets == [("/api/v1/secrets", cluster.selector("team"), cluster.METADATA_ONLY)]
    assert "instance=team" in secrets[0][1]


def test_only_mlflow_is_an_endpoint(api_server: Server, tmp_path: Path) -> None:
    """A notebook is published by the same instance, and is not asked for MLflow's health."""
    ingresses = [
        {
            "metadata": {"name": host, "labels": {"app.kubernetes.io/component": component}},
            "spec": {"rules": [{"host": host}]},
        }
        for host, component in (("mlflow.local", "ingress"), ("notebook.local", "notebook-ingress"))
    ]
    url, _ = api_server(ANSWERS | {"/apis/networking.k8s.io/v1/ingresses": {"items": ingresses}})
    endpoints = ask(kubeconfig(tmp_path / "config", url))["endpoints"]
    assert [endpoint["url"] for endpoint in endpoints] == ["http://mlflow.local"]


def test_no_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(MlopsError, match=r"no kubeconfig at .*/missing: start the cluster first"):
        ask(str(tmp_path / "missing"))
    result = ask(str(tmp_path / "missing"), ignore_unreachable=True)
    assert not result["reachable"]
    assert "no kubeconfig" in result["reason"]
    assert result["objects"] == []


def test_a_missing_context_names_the_known_ones(tmp_path: Path) -> None:
    config = kubeconfig(tmp_path / "config", "https://127.0.0.1:1")
    with pytest.raises(MlopsError, match=r"no context 'three' in .*There are: one, two\.") as caught:
        ask(config, "three")
    assert caught.value.details["contexts"] == ["one", "two"]
    assert not ask(config, "three", ignore_unreachable=True)["reachable"]


def test_the_current_context_is_the_default(api_server: Server, tmp_path: Path) -> None:
    url, _ = api_server(ANSWERS)
    assert ask(kubeconfig(tmp_path / "config", url), None)["context"] == "one"
    with pytest.raises(MlopsError, match=r"has no current context: name one in `context`. There are: one, two"):
        ask(kubeconfig(tmp_path / "config", url, current=""), None)
    with pytest.raises(MlopsError, match=r"no context 'gone'"):
        ask(kubeconfig(tmp_path / "config", url, current="gone"), None)
    assert ask(kubeconfig(tmp_path / "config", url, current="gone"), "two")["reachable"]


@pytest.mark.parametrize("text", ["", "not: [yaml", "[]", "{}", "kind: Config"])
def test_a_broken_kubeconfig(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(MlopsError, match=r"/config"):
        ask(str(tmp_path / "config"))


def test_a_closed_port_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{closed.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(MlopsError, match=rf"API server {url} of context 'two' cannot be reached: .*refused.*Start"):
        ask(kubeconfig(tmp_path / "config", url))
    assert time.monotonic() - started < 2
    assert not ask(kubeconfig(tmp_path / "config", url), ignore_unreachable=True)["reachable"]


def test_a_silent_server_is_told_in_five_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(MlopsError, match=r"cannot be reached: .*timed out"):
            ask(kubeconfig(tmp_path / "config", f"https://127.0.0.1:{silent.getsockname()[1]}"))
        assert time.monotonic() - started < 6


def test_a_server_that_is_not_kubernetes(api_server: Server, tmp_path: Path) -> None:
    url, _ = api_server({"/version": {"hello": "world"}})
    with pytest.raises(MlopsError, match="is not one of Kubernetes"):
        ask(kubeconfig(tmp_path / "config", url))


@pytest.mark.parametrize("version", ["v1.29.14", "v1.9.0", "v0.21.4"])
def test_an_old_kubernetes_is_refused_even_where_unreachable_is_ignored(
    api_server: Server, tmp_path: Path, version: str
) -> None:
    url, asked = api_server({"/version": {"gitVersion": version}})
    with pytest.raises(MlopsError, match=rf"Kubernetes {version} is too old: 1\.30 or newer"):
        ask(kubeconfig(tmp_path / "config", url), ignore_unreachable=True)
    assert [path for path, *_ in asked] == ["/version"]


@pytest.mark.parametrize("version", ["v1.30.0", "v1.34.4+k3s1", "v2.0.0", "v1.34.1-eks-abc"])
def test_other_versions_are_taken(version: str) -> None:
    assert cluster.parse_version({"gitVersion": version}) == version


@pytest.mark.parametrize(("status", "advice"), [(401, "credentials"), (403, "lacks the right"), (503, "starting")])
def test_a_refusal_is_told(api_server: Server, tmp_path: Path, status: int, advice: str) -> None:
    url, _ = api_server(ANSWERS | {"/api/v1/nodes": status})
    with pytest.raises(MlopsError, match=rf"answered {status} .* for GET /api/v1/nodes: .*{advice}"):
        ask(kubeconfig(tmp_path / "config", url))


def test_a_node_without_addresses() -> None:
    assert cluster.describe_node({"metadata": {"name": "n"}}) == {
        "name": "n",
        "addresses": [],
        "ready": False,
        "hostname_label": "n",
    }


@pytest.mark.parametrize(
    ("service", "url"),
    [
        ({"spec": {"ports": [{"port": 5050, "nodePort": 30050}]}}, "http://10.0.0.9:30050"),
        (
            {
                "spec": {"ports": [{"port": 5050, "nodePort": 30050}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
            },
            "http://1.2.3.4:5050",
        ),
        ({"spec": {"ports": [{"port": 5050}]}}, None),
    ],
)
def test_a_service_is_published_by_load_balancer_or_node_port(service: dict[str, Any], url: str | None) -> None:
    endpoint = cluster.service_endpoint(service, "10.0.0.9")
    assert (endpoint and endpoint["url"]) == url


def test_an_ingress_is_reached_at_its_load_balancer_or_the_node() -> None:
    ingress = {"spec": {"rules": [{"host": "mlflow.local"}], "tls": [{}]}}
    assert cluster.ingress_endpoint(ingress, "10.0.0.9") == {
        "name": "ingress",
        "url": "https://mlflow.local",
        "address": "10.0.0.9",
    }
    balanced = ingress | {"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}
    endpoint = cluster.ingress_endpoint(balanced, "10.0.0.9")
    assert endpoint
    assert endpoint["address"] == "1.2.3.4"
    assert cluster.ingress_endpoint({"spec": {"rules": [{}]}}, "10.0.0.9") is None
