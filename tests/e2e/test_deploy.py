"""Deploy, repeat, prune and remove; whatever destroys works on a second instance beside the main one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rig import LABELS, Deployment, PlaybookRunner, Sandbox

SECOND = {
    "mlflow_instance": "second",
    "mlflow_namespace": "mlflow-second",
    "mlflow_volume_name": "second-volume",
    "mlflow_data_path": "/data/mlflow-second",
    "mlflow_ingress_host": "second.local",
    "mlflow_workers": 1,
}
NAMESPACE = SECOND["mlflow_namespace"]
# The kinds that a deploy makes; ReplicaSets, pods and the like are Kubernetes' own.
NAMESPACED = "deployment,service,ingress,secret,configmap,persistentvolumeclaim"


def test_check_mode_where_there_is_no_cluster(playbook: PlaybookRunner, tmp_path: Path) -> None:
    missing = {"minikube_profile": "mlops-none", "minikube_kubeconfig": str(tmp_path / "kubeconfig")}
    play = playbook("site.yml", missing, check=True)
    assert play.count("failed") == play.count("unreachable") == 0
    assert "Bring the cluster into its state" in " ".join(play.changed_tasks)
    assert not (tmp_path / "kubeconfig").exists()

    nothing = playbook("playbooks/teardown.yml", missing)
    assert nothing.count("changed") == 0


def test_repeating_changes_nothing(playbook: PlaybookRunner, deployed: Deployment) -> None:
    again = playbook("site.yml")
    assert (again.count("changed"), again.changed_tasks) == (0, [])
    for address in (deployed.service, deployed.ingress):
        assert address in again.output
    checked = playbook("site.yml", {}, check=True)
    assert (checked.count("changed"), checked.changed_tasks) == (0, [])


def test_the_experiment_exists(deployed: Deployment) -> None:
    experiment = MlflowClient(deployed.service).get_experiment_by_name("Anomaly Detection")
    assert experiment is not None
    assert experiment.lifecycle_stage == "active"
    assert experiment.artifact_location.startswith("mlflow-artifacts:")


def test_verify_alone(playbook: PlaybookRunner, deployed: Deployment) -> None:
    play = playbook("playbooks/verify.yml")
    assert play.count("changed") == 0
    assert deployed.service in play.output
    assert deployed.ingress in play.output


@pytest.fixture(scope="module")
def second(sandbox: Sandbox, playbook: PlaybookRunner, deployed: Deployment) -> Iterator[Deployment]:
    """A second instance beside the main one; what a failed or killed test left of it is removed."""
    removal = SECOND | {"mlflow_teardown_data": True}
    playbook("playbooks/teardown.yml", removal)
    checked = playbook("site.yml", SECOND, check=True)
    assert checked.count("failed") == 0
    assert checked.count("changed") > 0
    assert not sandbox.objects("namespace", f"--field-selector=metadata.name={NAMESPACE}")
    assert "mlflow-second" not in sandbox.node_directories()

    playbook("site.yml", SECOND)
    yield Deployment.read(sandbox, NAMESPACE)
    playbook("playbooks/teardown.yml", removal)


def test_all_objects_are_labelled(sandbox: Sandbox, second: Deployment, deployed: Deployment) -> None:
    labels = LABELS | {"app.kubernetes.io/instance": "second", "app.kubernetes.io/name": "mlflow"}
    found = sandbox.objects(NAMESPACED, "-n", NAMESPACE, "--show-managed-fields")
    found = [item for item in found if item["metadata"]["name"] != "kube-root-ca.crt"]
    found += sandbox.objects(
        "namespace,persistentvolume", "-l", "app.kubernetes.io/instance=second", "--show-managed-fields"
    )
    kinds = {item["kind"] for item in found}
    assert kinds >= {
        *("Namespace", "PersistentVolume", "PersistentVolumeClaim"),
        *("Secret", "Deployment", "Service", "Ingress"),
    }
    for item in found:
        assert item["metadata"].get("labels", {}).items() >= labels.items(), item["metadata"]
        managers = {entry["manager"] for entry in item["metadata"]["managedFields"]}
        assert "mlops.mlflow" in managers, (item["kind"], managers)
    assert second.service != deployed.service


def test_what_is_no_longer_wanted_goes(sandbox: Sandbox, playbook: PlaybookRunner, second: Deployment) -> None:
    changes = SECOND | {"mlflow_service_name": "renamed", "mlflow_ingress_enabled": False}
    before = {item["metadata"]["name"] for item in sandbox.objects("service,ingress", "-n", NAMESPACE)}
    checked = playbook("site.yml", changes, check=True)
    assert checked.count("changed") > 0
    assert {item["metadata"]["name"] for item in sandbox.objects("service,ingress", "-n", NAMESPACE)} == before
    playbook("site.yml", changes)
    assert [item["metadata"]["name"] for item in sandbox.objects("service", "-n", NAMESPACE)] == ["renamed"]
    assert sandbox.objects("ingress", "-n", NAMESPACE) == []
    again = playbook("site.yml", changes)
    assert (again.count("changed"), again.changed_tasks) == (0, [])


def test_teardown_keeps_the_data_unless_told(
    sandbox: Sandbox, playbook: PlaybookRunner, second: Deployment, deployed: Deployment
) -> None:
    checked = playbook("playbooks/teardown.yml", SECOND, check=True)
    assert checked.count("changed") > 0
    assert sandbox.objects("deployment", "-n", NAMESPACE) != []

    playbook("playbooks/teardown.yml", SECOND)
    every = f"namespace,persistentvolume,{NAMESPACED}"
    assert sandbox.objects(every, "-A", "-l", "app.kubernetes.io/instance=second") == []
    assert not sandbox.objects("namespace", f"--field-selector=metadata.name={NAMESPACE}")
    assert "mlflow-second" in sandbox.node_directories()

    again = playbook("playbooks/teardown.yml", SECOND)
    assert (again.count("changed"), again.changed_tasks) == (0, [])

    with_data = SECOND | {"mlflow_teardown_data": True}
    playbook("playbooks/teardown.yml", with_data)
    assert {"mlflow", "mlflow-second"} & sandbox.node_directories() == {"mlflow"}
    assert playbook("playbooks/teardown.yml", with_data).count("changed") == 0
    # The main instance has not noticed.
    assert MlflowClient(deployed.service).get_experiment_by_name("Anomaly Detection") is not None
