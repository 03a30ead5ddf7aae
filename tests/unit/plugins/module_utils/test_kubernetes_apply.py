"""What kubernetes_apply decides: what is new, what differs, what goes, when a rollout is complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _kubernetes_apply as objects
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes import ApiError, object_path

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "namespace": "n"},
    "data": {"uri": "aGlkZGVu"},
}
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "new", "namespace": "n"}}
READY = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}


def found(kind: str, name: str, component: str = "server", namespace: str = "n") -> dict[str, str]:
    return {"apiVersion": "v1", "kind": kind, "name": name, "namespace": namespace, "component": component}


def cluster(*found: dict[str, str], reachable: bool = True) -> dict[str, Any]:
    return {"reachable": reachable, "objects": list(found)}


def deployment(**status: int) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n", "generation": 2, "resourceVersion": "7"},
        "spec": {"replicas": 1},
        "status": status,
    }


class Server:
    """Answers in the place of a connection: PATCH with each answer in turn, watches with each list of objects."""

    def __init__(self, *answers: Any, watches: list[list[dict[str, Any]]] | None = None) -> None:
        self.answers, self.watches = list(answers), watches or []

    def json(self, *_: Any, **__: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def find(self, *_: Any) -> Any:
        return self.answers.pop(0)

    def watch(self, *_: Any) -> Iterator[dict[str, Any]]:
        yield from self.watches.pop(0)


def test_what_a_component_no_longer_wants_goes_and_nothing_else() -> None:
    there = cluster(found("Service", "old"), found("Service", "new"), found("Ingress", "i", component="ingress"))
    assert objects.unwanted(there, "server", [SERVICE]) == [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "old", "namespace": "n"}}
    ]


@pytest.mark.parametrize("kind", ["Namespace", "PersistentVolume", "PersistentVolumeClaim"])
def test_what_holds_data_is_never_pruned(kind: str) -> None:
    assert objects.unwanted(cluster(found(kind, "old", component="storage")), "storage", []) == []


def test_the_server_is_asked_for_a_dry_run_only_where_the_namespace_is() -> None:
    assert objects.namespace_known(cluster(found("Service", "s")), "n")
    assert not objects.namespace_known(cluster(found("PersistentVolume", "v", namespace="")), "n")
    assert not objects.namespace_known(cluster(found("Service", "s"), reachable=False), "n")


def test_without_a_namespace_check_mode_tells_that_all_is_new() -> None:
    parameters = {"definitions": [SECRET, SERVICE], "cluster": cluster(), "namespace": "n"}
    result = objects.kubernetes_apply(parameters, check_mode=True, tell=print)
    assert result["changed"]
    assert [diff["after_header"] for diff in result["diff"]] == ["Secret/s", "Service/new"]
    assert "aGlkZGVu" not in str(result)


def test_what_the_server_keeps_for_itself_is_no_difference() -> None:
    metadata = {"name": "new", "managedFields": [], "resourceVersion": "8", "generation": 3, "uid": "u"}
    assert objects.settings(SERVICE | {"metadata": metadata, "status": {"loadBalancer": {}}}) == SERVICE | {
        "metadata": {"name": "new"}
    }
    assert objects.settings(None) == {}


def test_a_changed_secret_is_a_difference_whose_content_is_hidden() -> None:
    before = SECRET | {"data": {"uri": "b2xk"}}
    assert objects.settings(before) != objects.settings(SECRET)
    diff = objects.difference(SECRET, before, SECRET)
    assert "b2xk" not in str(diff)
    assert "aGlkZGVu" not in str(diff)


@pytest.mark.parametrize("short", ["observedGeneration", "replicas", "updatedReplicas", "availableReplicas"])
def test_a_rollout_is_complete_when_everything_is(short: str) -> None:
    assert objects.deployment_ready(deployment(**READY))
    assert not objects.deployment_ready(deployment(**{name: 1 for name in READY if name != short}))


def test_a_rollout_is_waited_for_by_watch_and_a_broken_watch_is_begun_again() -> None:
    ready = deployment(**READY)
    server = Server(deployment(), watches=[[deployment()], [deployment(replicas=1), ready]])
    objects.wait_for_rollout(server, deployment(), 5)  # type: ignore[arg-type]
    assert server.watches == []


def test_a_rollout_that_takes_too_long_is_an_error() -> None:
    with pytest.raises(MlopsError, match="Deployment n/d is not rolled out after 0 s"):
        objects.wait_for_rollout(Server(), deployment(), 0)  # type: ignore[arg-type]


def test_a_webhook_that_does_not_answer_yet_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "WEBHOOK_PAUSE", 0)
    said: list[str] = []
    server = Server(ApiError("failed calling webhook validate.nginx.ingress.kubernetes.io", 500), SERVICE)
    assert objects.apply(server, SERVICE, dry_run=False, tell=said.append) == SERVICE  # type: ignore[arg-type]
    assert "webhook" in said[0]


def test_any_other_refusal_is_told_at_once() -> None:
    server = Server(ApiError("provided port is already allocated", 422))
    with pytest.raises(ApiError, match="already allocated"):
        objects.apply(server, SERVICE, dry_run=False, tell=print)  # type: ignore[arg-type]


def test_the_path_of_an_object() -> None:
    assert object_path("Deployment", "d", "n") == "/apis/apps/v1/namespaces/n/deployments/d"
    assert object_path("PersistentVolume", "v", None) == "/api/v1/persistentvolumes/v"
    with pytest.raises(MlopsError, match="Pod is not among the kinds"):
        object_path("Pod", "p", "n")
