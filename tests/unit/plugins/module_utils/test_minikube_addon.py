"""Addons: compared with the profile, verified by their workloads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import Minikube, NodeStatus
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_addon import (
    Addons,
    Outcome,
    Wanted,
    Workload,
    describe_pods,
    parse_workloads,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_run import Result

FIXTURES = Path(__file__).parents[2] / "fixtures/minikube"
WORKLOADS = json.loads((FIXTURES / "workloads.json").read_text())
PENDING = {
    "items": [
        {
            "metadata": {"namespace": "ingress-nginx", "name": "controller-1"},
            "status": {
                "phase": "Pending",
                "containerStatuses": [
                    {
                        "name": "controller",
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}},
                    }
                ],
            },
        },
        {
            "metadata": {"namespace": "ingress-nginx", "name": "controller-2"},
            "status": {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}],
            },
        },
    ]
}


def test_workloads_as_recorded() -> None:
    assert parse_workloads(WORKLOADS) == (
        Workload("Deployment", "kube-system", "coredns", 1, 1),
        Workload("DaemonSet", "kube-system", "kube-proxy", 1, 1),
    )


def deployment(available: int, *, generation: int = 1, observed: int = 1, updated: int = 1) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"namespace": "ingress-nginx", "name": "ingress-nginx-controller", "generation": generation},
        "spec": {"replicas": 1},
        "status": {"availableReplicas": available, "updatedReplicas": updated, "observedGeneration": observed},
    }


@pytest.mark.parametrize(
    ("item", "available"),
    [
        (deployment(1), True),
        (deployment(0), False),
        (deployment(1, generation=2), False),
        (deployment(1, updated=0), False),
        ({"kind": "ReplicationController", "spec": {"replicas": 1}, "status": {"replicas": 1}}, False),
        ({"kind": "ReplicationController", "status": {"replicas": 1, "availableReplicas": 1}}, True),
        ({"kind": "Deployment", "metadata": {"generation": 1}}, False),
    ],
)
def test_what_counts_as_available(item: dict[str, Any], *, available: bool) -> None:
    (workload,) = parse_workloads({"items": [item]})
    assert workload.available is available


def test_pods_say_what_they_wait_for() -> None:
    assert describe_pods(PENDING) == [
        "ingress-nginx/controller-1 Pending (controller: ImagePullBackOff no such host)",
        "ingress-nginx/controller-2 Pending (0/1 nodes are available)",
    ]


@dataclass
class Cluster:
    """Answers for the cluster; `workloads` are what its addon gets to, one answer after another."""

    folder: Path
    workloads: list[dict[str, Any]] = field(default_factory=lambda: [deployment(1)])
    calls: list[str] = field(default_factory=list)
    running: bool = True
    takes: bool = True
    rc: int = 0
    now: float = 0

    def __post_init__(self) -> None:
        self.profile = self.folder / ".minikube/profiles/lab/config.json"
        self.profile.parent.mkdir(parents=True)
        self.profile.write_bytes((FIXTURES / "profile-docker.json").read_bytes())

    def update(self, **settings: Any) -> None:
        config = json.loads(self.profile.read_text())
        for key, value in settings.items():
            config[key] = (config[key] or {}) | value
        self.profile.write_text(json.dumps(config))

    def run(self, *arguments: str, **_: Any) -> Result:
        self.calls.append(" ".join(arguments))
        answer = ""
        match arguments:
            case ("addons", "list", *_):
                answer = (FIXTURES / "addons-list.json").read_text()
            case ("addons", ("enable" | "disable") as verb, name, *flags):
                if self.takes:
                    self.update(Addons={name: verb == "enable"})
                    for flag in flags:
                        key = "CustomAddonImages" if "images" in flag else "CustomAddonRegistries"
                        self.update(**{key: dict([flag.split("=", 1)[1].split("=")])})
            case ("kubectl", *_) if "pods" in arguments:
                answer = json.dumps(PENDING)
            case ("kubectl", *_):
                item = self.workloads.pop(0) if len(self.workloads) > 1 else self.workloads[0]
                answer = json.dumps({"items": [item] if item else []})
        return Result(arguments, self.rc, answer, ("X Exiting",) if self.rc else (), 0.1)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ensure(self, wanted: Wanted, *, wait: bool = True, check_mode: bool = False) -> Outcome:
        minikube = Minikube(profile="lab", binary="sh", home=str(self.folder), timeout=10)
        state = "Running" if self.running else "Stopped"
        minikube.run = self.run  # type: ignore[method-assign]
        minikube.status = lambda: (NodeStatus("lab", state, state, state, "Configured", worker=False),)  # type: ignore[method-assign]
        return Addons(minikube, lambda: self.now, self.sleep).ensure(wanted, wait=wait, check_mode=check_mode)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


INGRESS = Wanted("ingress")
METRICS = Wanted(
    "metrics-server",
    images={"MetricsServer": "metrics-server/metrics-server:v0.9.0"},
    registries={"MetricsServer": "r"},
)


def test_enabling_waits_until_the_controller_is_available(cluster: Cluster) -> None:
    cluster.workloads = [deployment(0), deployment(0), deployment(1)]
    outcome = cluster.ensure(INGRESS)
    assert outcome.difference.result()["diff"] == {"before": {"enabled": False}, "after": {"enabled": True}}
    assert [workload.available for workload in outcome.workloads] == [True]
    assert "addons enable ingress" in cluster.calls
    assert cluster.now == 4


def test_an_enabled_addon_is_looked_at_and_left_alone(cluster: Cluster) -> None:
    cluster.ensure(INGRESS)
    cluster.calls.clear()
    assert not cluster.ensure(INGRESS).difference
    assert not any(call.startswith("addons") for call in cluster.calls)
    assert cluster.calls[0].startswith("kubectl --ssh -- get deployments,daemonsets")


def test_without_waiting_an_enabled_addon_takes_no_call(cluster: Cluster) -> None:
    cluster.update(Addons={"ingress": True})
    assert not cluster.ensure(INGRESS, wait=False).difference
    assert cluster.calls == []


def test_an_addon_whose_workloads_are_gone_is_enabled_again(cluster: Cluster) -> None:
    cluster.update(Addons={"ingress": True})
    cluster.workloads = [{}, deployment(1)]
    assert cluster.ensure(INGRESS).difference
    assert "addons enable ingress" in cluster.calls


def test_a_controller_that_does_not_come_is_an_error_with_its_pods(cluster: Cluster) -> None:
    cluster.workloads = [deployment(0)]
    with pytest.raises(MlopsError) as failure:
        cluster.ensure(INGRESS)
    message = failure.value.message
    assert "Deployment ingress-nginx/ingress-nginx-controller did not become available within 10 seconds" in message
    assert "ImagePullBackOff no such host" in message
    assert len(failure.value.details["pods"]) == 2


def test_images_and_registries(cluster: Cluster) -> None:
    assert cluster.ensure(METRICS).difference.after["registries"] == {"MetricsServer": "r"}
    enable = next(call for call in cluster.calls if call.startswith("addons enable"))
    assert enable == (
        "addons enable metrics-server --images=MetricsServer=metrics-server/metrics-server:v0.9.0"
        " --registries=MetricsServer=r"
    )
    assert not cluster.ensure(METRICS).difference


def test_what_minikube_leaves_undone_is_an_error(cluster: Cluster) -> None:
    cluster.takes = False
    with pytest.raises(MlopsError, match=r"said nothing, but left undone(?s:.*)minikube addons images metrics-server"):
        cluster.ensure(METRICS)


def test_disabling(cluster: Cluster) -> None:
    cluster.update(Addons={"ingress": True})
    assert cluster.ensure(Wanted("ingress", enabled=False)).difference
    assert not cluster.ensure(Wanted("ingress", enabled=False)).difference


def test_an_unknown_addon_is_told_also_in_check_mode(cluster: Cluster) -> None:
    for check_mode in (True, False):
        with pytest.raises(MlopsError, match=r"has no addon 'ingres'\. It has: .*ingress"):
            cluster.ensure(Wanted("ingres"), check_mode=check_mode)


def test_check_mode_only_looks(cluster: Cluster) -> None:
    assert cluster.ensure(INGRESS, check_mode=True).difference
    assert cluster.calls == ["addons list -o json"]


def test_a_stopped_cluster(cluster: Cluster) -> None:
    cluster.running = False
    assert cluster.ensure(INGRESS, check_mode=True).difference
    with pytest.raises(MlopsError, match="needs a running cluster"):
        cluster.ensure(INGRESS)


def test_a_missing_profile(cluster: Cluster) -> None:
    cluster.profile.unlink()
    assert cluster.ensure(INGRESS, check_mode=True).difference
    assert not cluster.ensure(Wanted("ingress", enabled=False)).difference
    with pytest.raises(MlopsError, match="there is no Minikube profile 'lab'"):
        cluster.ensure(INGRESS)


def test_a_failure_of_minikube_has_the_pods_too(cluster: Cluster) -> None:
    cluster.rc = 11
    with pytest.raises(MlopsError, match=r"addons enable ingress. failed(?s:.*)X Exiting(?s:.*)ImagePullBackOff"):
        cluster.ensure(INGRESS)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("../x"),
        Wanted("--all"),
        Wanted("ingress", images={"A": "x,B=y"}),
        Wanted("ingress", registries={"A-": "x"}),
    ],
)
def test_bad_input_is_refused(cluster: Cluster, wanted: Wanted) -> None:
    with pytest.raises(MlopsError, match="is not"):
        cluster.ensure(wanted)
    assert cluster.calls == []
