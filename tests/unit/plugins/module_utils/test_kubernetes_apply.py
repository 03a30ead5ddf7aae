"""What kubernetes_apply decides: what is new, what differs, what goes."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils import _kubernetes_apply as objects

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "namespace": "n"},
    "data": {"uri": "aGlkZGVu"},
}
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "new", "namespace": "n"}}


def found(kind: str, name: str, component: str = "server", namespace: str = "n") -> dict[str, str]:
    return {"apiVersion": "v1", "kind": kind, "name": name, "namespace": namespace, "component": component}


def cluster(*found: dict[str, str], reachable: bool = True) -> dict[str, Any]:
    return {"reachable": reachable, "objects": list(found)}


def test_what_a_component_no_longer_wants_goes_and_nothing_else() -> None:
    there = cluster(found("Service", "old"), found("Service", "new"), found("Ingress", "i", component="ingress"))
    assert objects.unwanted(there, "server", [SERVICE]) == [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "old", "namespace": "n"}}
    ]


def test_an_object_of_the_cluster_is_deleted_without_a_namespace() -> None:
    there = cluster(found("PersistentVolume", "v", component="storage", namespace=""))
    assert objects.unwanted(there, "storage", [])[0]["metadata"] == {"name": "v"}


def test_the_server_is_asked_for_a_dry_run_only_where_the_namespace_is() -> None:
    assert objects.namespace_known(cluster(found("Service", "s")), "n")
    assert not objects.namespace_known(cluster(found("PersistentVolume", "v", namespace="")), "n")
    assert not objects.namespace_known(cluster(found("Service", "s"), reachable=False), "n")


def test_the_diff_of_a_new_secret_hides_its_content() -> None:
    diff = objects.creation_diff(SECRET)
    assert diff["after"]["metadata"]["name"] == "s"
    assert "aGlkZGVu" not in str(diff)


def test_only_what_changed_is_in_the_diff() -> None:
    answer = {
        "changed": True,
        "result": {
            "results": [
                {"changed": False, "result": {}},
                {"changed": True, "diff": {"before": {"a": 1}, "after": {"a": 2}}, "result": {}},
            ]
        },
    }
    assert objects.change_diffs(answer, [SECRET, SERVICE]) == [
        {"before_header": "Service/new", "after_header": "Service/new", "before": {"a": 1}, "after": {"a": 2}}
    ]


def test_the_answer_for_a_single_definition_is_not_a_list() -> None:
    answer = {"changed": True, "result": {"kind": "Service"}, "diff": {}}
    assert objects.change_diffs(answer, [SERVICE]) == [objects.creation_diff(SERVICE)]
