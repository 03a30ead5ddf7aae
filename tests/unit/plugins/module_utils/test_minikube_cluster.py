"""A profile in the state asked for, against a program that answers as Minikube v1.38.1 does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import Minikube, NodeStatus, Profile, Snapshot
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_cluster import (
    Outcome,
    Steps,
    Wanted,
    compare,
    describe,
    ensure,
    refuse_fixed,
    size_in_mib,
)

FIXTURES = Path(__file__).parents[2] / "fixtures/minikube"
CONFIG = json.loads((FIXTURES / "profile-docker.json").read_text())

# Keeps the state in a file, as the driver would; what it is told to do wrong is in files of that name.
PROGRAM = """#!/bin/sh
cd "$(dirname "$0")"
shift 2
echo "$@" >> calls
profile=.minikube/profiles/lab/config.json
event() { printf '{"type":"io.k8s.sigs.minikube.%s","data":%s}\\n' "$1" "$2"; }
case "$1" in
version) cat version.json;;
status)
  case "$(cat state)" in
  Running) kubelet=Running api=Running config=Configured;;
  Paused) kubelet=Stopped api=Paused config=Configured;;
  *) kubelet=Stopped api=Stopped config=Stopped;;
  esac
  host=$(cat state); [ "$host" = Paused ] && host=Running
  [ "$host" = None ] && echo null && exit 7
  status="{\\"Name\\":\\"lab\\",\\"Host\\":\\"$host\\",\\"Kubelet\\":\\"$kubelet\\",\\"APIServer\\":\\"$api\\""
  echo "$status,\\"Kubeconfig\\":\\"$config\\",\\"Worker\\":false}";;
start)
  event step '{"name":"Starting Node","message":"Starting node","currentstep":"3","totalsteps":"19"}'
  event warning '{"message":"minikube skips various validations"}'
  [ -e fail ] && event error "$(cat fail)" && exit 81
  [ -e silent ] && exit 0
  event step '{"name":"Done","message":"Done!","currentstep":"19","totalsteps":"19"}'
  mkdir -p "$(dirname $profile)"; [ -e $profile ] || cp new.json $profile; echo Running > state;;
stop) echo Stopped > state;;
pause) echo Paused > state;;
unpause) echo Running > state;;
delete) [ -e silent ] || rm -r "$(dirname $profile)"; echo None > state;;
esac
"""


@dataclass
class Lab:
    folder: Path

    @property
    def minikube(self) -> Minikube:
        return Minikube(profile="lab", binary=str(self.folder / "minikube"), home=str(self.folder))

    def set(self, state: str, **settings: Any) -> None:
        path = self.folder / ".minikube/profiles/lab/config.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(CONFIG | {"Name": "lab"} | settings))
        (self.folder / "state").write_text(state)

    def calls(self) -> list[str]:
        """Commands that change something."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.split()[0] not in ("version", "status")]

    def ensure(self, state: str, *, check_mode: bool = False, **wanted: Any) -> Outcome:
        self.shown: list[str] = []
        return ensure(self.minikube, state, Wanted(**wanted), check_mode=check_mode, show=self.shown.append)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "minikube").write_text(PROGRAM)
    (tmp_path / "minikube").chmod(0o755)
    (tmp_path / "version.json").write_bytes((FIXTURES / "version.json").read_bytes())
    (tmp_path / "state").write_text("None")
    (tmp_path / "new.json").write_text(json.dumps(CONFIG | {"Name": "lab"}))
    return Lab(tmp_path)


@pytest.mark.parametrize(
    ("given", "mib"),
    [("4096", 4096), (4096, 4096), ("4g", 4096), ("4096mb", 4096), ("4GiB", 4096), ("1.5g", 1536), ("2048 m", 2048)],
)
def test_sizes_are_read_as_minikube_reads_them(given: str | int, mib: int) -> None:
    assert size_in_mib(given) == mib


@pytest.mark.parametrize("given", ["lots", "-1", "4 g b", "", "4x"])
def test_what_is_not_a_size(given: str) -> None:
    with pytest.raises(MlopsError, match="is not a size"):
        size_in_mib(given)


def differences(**wanted: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    found = compare(Profile("lab", CONFIG), Wanted(**wanted))
    return found.fixed.after, found.changeable.after


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"driver": "docker", "container_runtime": "docker", "cpus": "2", "memory": "6000", "disk_size": "20000mb"},
        {"kubernetes_version": "v1.34.4", "nodes": 1},
        {"kubernetes_version": "1.34"},
        {"kubernetes_version": "stable", "memory": "max", "cpus": "max"},
        {"start_options": {"force": True, "base-image": "x", "cni": "", "network": "", "extra-disks": 0}},
        {"start_options": {"static-ip": None}},
    ],
)
def test_settings_that_agree(wanted: dict[str, Any]) -> None:
    assert differences(**wanted) == ({}, {})


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ({"driver": "kvm2"}, "driver"),
        ({"container_runtime": "containerd"}, "container_runtime"),
        ({"cpus": "4"}, "cpus"),
        ({"cpus": "no-limit"}, "cpus"),
        ({"memory": "4g"}, "memory"),
        ({"disk_size": "40g"}, "disk_size"),
        ({"nodes": 2}, "nodes"),
        ({"kubernetes_version": "v1.33.9"}, "kubernetes_version"),
        ({"start_options": {"static-ip": "192.168.200.200"}}, "static-ip"),
        ({"start_options": {"ports": ["8080:80"]}}, "ports"),
        ({"start_options": {"registry-mirror": "https://mirror.example.org"}}, "registry-mirror"),
    ],
)
def test_settings_that_cannot_change(wanted: dict[str, Any], name: str) -> None:
    fixed, changeable = differences(**wanted)
    assert list(fixed) == [name]
    assert changeable == {}


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ({"kubernetes_version": "v1.35.1"}, "kubernetes_version"),
        ({"start_options": {"extra-config": ["kubelet.max-pods=50"]}}, "extra-config"),
        ({"start_options": {"feature-gates": "A=true"}}, "feature-gates"),
    ],
)
def test_settings_that_another_start_changes(wanted: dict[str, Any], name: str) -> None:
    fixed, changeable = differences(**wanted)
    assert fixed == {}
    assert list(changeable) == [name]


def test_lists_agree_when_what_is_asked_for_is_there() -> None:
    options = [{"Component": "kubelet", "Key": "max-pods", "Value": "50"}, {"Component": "x", "Key": "y", "Value": "z"}]
    config = CONFIG | {"KubernetesConfig": CONFIG["KubernetesConfig"] | {"ExtraOptions": options}}
    found = compare(Profile("lab", config), Wanted(start_options={"extra-config": "kubelet.max-pods=50"}))
    assert not found.changeable


def test_an_alias_is_the_same_driver_and_crio_the_same_runtime() -> None:
    kubernetes = CONFIG["KubernetesConfig"] | {"ContainerRuntime": "crio"}
    profile = Profile("lab", CONFIG | {"Driver": "kvm2", "KubernetesConfig": kubernetes})
    assert not compare(profile, Wanted(driver="kvm", container_runtime="cri-o")).fixed


def test_the_error_names_every_setting_that_cannot_change() -> None:
    profile = Profile("lab", CONFIG)
    with pytest.raises(MlopsError) as failure:
        refuse_fixed(profile, compare(profile, Wanted(driver="kvm2", memory="4g", nodes=3)).fixed)
    message = failure.value.message
    assert "driver is docker, wanted kvm2; memory is 6000 MiB, wanted 4096 MiB; nodes is 1, wanted 3" in message
    assert "Nothing was changed" in message
    assert failure.value.details["immutable"]["before"]["memory"] == 6000


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"driver": "dokcer"}, "no driver 'dokcer'"),
        ({"kubernetes_version": "newish"}, "is not a Kubernetes version"),
        ({"kubernetes_version": "v1.29.0"}, "too old"),
        ({"container_runtime": "rkt"}, "no container runtime 'rkt'"),
        ({"cpus": "two"}, "is not a number of CPUs"),
        ({"cpus": "0"}, "is not a number of CPUs"),
        ({"memory": "much"}, "is not a size"),
        ({"nodes": 0}, "at least one node"),
        ({"start_options": {"--force": True}}, "is not a flag"),
        ({"start_options": {"memory": "4g"}}, "must not have 'memory'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_called(lab: Lab, wanted: dict[str, Any], said: str) -> None:
    with pytest.raises(MlopsError, match=said):
        lab.ensure("started", **wanted)
    assert not (lab.folder / "calls").exists()


def test_a_node_like_name_is_refused(lab: Lab) -> None:
    minikube = Minikube(profile="m2", binary=str(lab.folder / "minikube"), home=str(lab.folder))
    with pytest.raises(MlopsError, match="ends like the name of a node"):
        ensure(minikube, "started", Wanted(), check_mode=False, show=print)
    assert lab.calls() == []


def test_an_old_minikube_is_refused(lab: Lab) -> None:
    (lab.folder / "version.json").write_text('{"minikubeVersion": "v1.33.1"}')
    with pytest.raises(MlopsError, match=r"Minikube v1\.33\.1 is too old"):
        lab.ensure("started")
    assert lab.calls() == []


def test_an_existing_cluster_of_an_old_kubernetes_is_refused(lab: Lab) -> None:
    lab.set("Running", KubernetesConfig=CONFIG["KubernetesConfig"] | {"KubernetesVersion": "v1.29.9"})
    with pytest.raises(MlopsError, match=r"Kubernetes v1\.29\.9 is too old"):
        lab.ensure("started")


def test_flags() -> None:
    wanted = Wanted(
        driver="docker",
        memory="4g",
        nodes=2,
        wait=["apiserver", "node_ready"],
        start_options={
            "force": True,
            "embed-certs": False,
            "docker-env": ["A=1", "B=x y"],
            "cni": None,
            "extra-disks": 1,
        },
    )
    assert wanted.arguments() == [
        "--driver=docker",
        "--memory=4g",
        "--nodes=2",
        "--force=true",
        "--embed-certs=false",
        "--docker-env=A=1",
        "--docker-env=B=x y",
        "--extra-disks=1",
        "--wait=apiserver,node_ready",
    ]


def test_a_missing_profile_is_started(lab: Lab) -> None:
    outcome = lab.ensure("started", driver="docker", memory="6000")
    assert outcome.difference.result() == {
        "changed": True,
        "diff": {
            "before": {"state": "absent"},
            "after": {"state": "running", "driver": "docker", "memory": "6000"},
        },
    }
    assert lab.calls() == ["start --output=json --interactive=false --driver=docker --memory=6000 --wait=all"]
    assert lab.shown == ["[3/19] Starting node", "[19/19] Done!"]
    assert [step["name"] for step in outcome.steps] == ["Starting Node", "Done"]
    assert outcome.snapshot.running
    assert outcome.warnings == []


def test_a_running_cluster_is_left_alone(lab: Lab) -> None:
    lab.set("Running")
    assert not lab.ensure("started", driver="docker", memory="6000", kubernetes_version="v1.34.4").difference
    assert sorted((lab.folder / "calls").read_text().splitlines()) == ["status -o json", "version -o json"]
    assert lab.calls() == []


def test_a_running_cluster_with_other_settings_is_refused(lab: Lab) -> None:
    lab.set("Running")
    with pytest.raises(MlopsError, match="cannot change: memory"):
        lab.ensure("started", memory="1g")
    with pytest.raises(MlopsError, match="cannot change: memory"):
        lab.ensure("started", memory="1g", check_mode=True)
    assert lab.calls() == []


@pytest.mark.parametrize(
    ("before", "state", "commands"),
    [
        ("Stopped", "started", ["start"]),
        ("Paused", "started", ["unpause"]),
        ("None", "started", ["start"]),
        ("Running", "stopped", ["stop"]),
        ("Paused", "stopped", ["stop"]),
        ("Running", "paused", ["pause"]),
        ("Stopped", "absent", ["delete"]),
        ("None", "absent", ["delete"]),
        ("Stopped", "stopped", []),
        ("Paused", "paused", []),
    ],
)
def test_ways_from_state_to_state(lab: Lab, before: str, state: str, commands: list[str]) -> None:
    lab.set(before)
    planned = lab.ensure(state, check_mode=True)
    assert lab.calls() == []
    done = lab.ensure(state)
    assert [call.split()[0] for call in lab.calls()] == done.actions == commands
    assert planned.difference.result() == done.difference.result()
    again = lab.ensure(state)
    assert not again.difference
    assert len(lab.calls()) == len(commands)


@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_a_missing_profile_is_as_good_as_stopped(lab: Lab, state: str) -> None:
    assert not lab.ensure(state).difference


def test_only_a_running_cluster_can_be_paused(lab: Lab) -> None:
    lab.set("Stopped")
    with pytest.raises(MlopsError, match=r"which is stopped.*start it first"):
        lab.ensure("paused")


def test_an_upgrade_starts_a_running_cluster_again(lab: Lab) -> None:
    lab.set("Running")
    outcome = lab.ensure("started", kubernetes_version="v1.35.1")
    assert outcome.actions == ["start"]
    assert outcome.difference.after == {"kubernetes_version": "v1.35.1"}


@pytest.mark.parametrize("content", ["", json.dumps(CONFIG | {"Nodes": [CONFIG["Nodes"][0] | {"IP": ""}]})])
def test_what_a_start_left_that_was_killed_before_there_was_a_cluster_is_deleted(lab: Lab, content: str) -> None:
    lab.set("None")
    (lab.folder / ".minikube/profiles/lab/config.json").write_text(content)
    outcome = lab.ensure("started")
    assert outcome.difference.before == {"state": "incomplete"}
    assert outcome.actions == ["delete", "start"]
    assert outcome.snapshot.running


def test_a_damaged_profile_of_a_cluster_is_not_deleted(lab: Lab) -> None:
    lab.set("Running")
    profile = lab.folder / ".minikube/profiles/lab"
    (profile / "config.json").write_text("{")
    (profile / "client.crt").touch()
    with pytest.raises(MlopsError, match=r"is damaged.*delete the cluster with its data"):
        lab.ensure("started", check_mode=True)
    assert lab.calls() == []


def test_a_start_that_fails_tells_why(lab: Lab) -> None:
    (lab.folder / "fail").write_text('{"message":"created using the kvm2 driver","advice":"Delete it","name":"X"}')
    with pytest.raises(MlopsError) as failure:
        lab.ensure("started")
    assert failure.value.message == (
        "`minikube start` for profile 'lab' failed (exit code 81: existing profile has another driver)."
        " created using the kvm2 driver. Delete it"
    )


def test_a_start_that_ends_well_without_a_cluster_is_an_error(lab: Lab) -> None:
    lab.set("Stopped")
    (lab.folder / "silent").touch()
    with pytest.raises(MlopsError, match="ended without an error, but the cluster does not run: lab: host Stopped"):
        lab.ensure("started")
    lab.ensure("started", wait=["none"])


def test_a_delete_that_leaves_something_is_an_error(lab: Lab) -> None:
    lab.set("Stopped")
    (lab.folder / "silent").touch()
    with pytest.raises(MlopsError, match=r"left .*profiles/lab"):
        lab.ensure("absent")


def test_a_missing_program_is_told_except_where_nothing_has_to_be_done(lab: Lab) -> None:
    (lab.folder / "minikube").unlink()
    assert lab.ensure("started", check_mode=True).difference.after == {"state": "running"}
    assert not lab.ensure("absent").difference
    with pytest.raises(MlopsError, match="was not found"):
        lab.ensure("started")


def test_downloads_are_shown_by_tenths() -> None:
    shown: list[str] = []
    steps = Steps(shown.append)
    steps('{"type":"io.k8s.sigs.minikube.download","data":{"artifact":"preload.tar"}}')
    for progress in ("0.05", "0.11", "0.12", "0.35", "nan?", "1"):
        data = json.dumps({"artifact": "preload.tar", "progress": progress})
        steps('{"type":"io.k8s.sigs.minikube.download.progress","data":' + data + "}")
    assert shown == [
        "Downloading preload.tar",
        *(f"Downloading preload.tar: {tenth} %" for tenth in (10, 30, 100)),
    ]


def test_a_failing_addon_is_a_warning_that_matters(lab: Lab) -> None:
    steps = Steps(print)
    steps('{"type":"io.k8s.sigs.minikube.warning","data":{"message":"Enabling \'ingress\' returned an error"}}')
    assert steps.warnings == ["Enabling 'ingress' returned an error"]


def test_facts(tmp_path: Path) -> None:
    minikube = Minikube(profile="mlflow-sandbox", home=str(tmp_path))
    machine = tmp_path / ".minikube/machines/mlflow-sandbox/config.json"
    machine.parent.mkdir(parents=True)
    machine.write_bytes((FIXTURES / "machine-docker.json").read_bytes())
    container = json.loads((FIXTURES / "container.json").read_text())
    status = NodeStatus("mlflow-sandbox", "Running", "Running", "Running", "Configured", worker=False)
    snapshot = Snapshot("v1.38.1", Profile("mlflow-sandbox", CONFIG), (status,))
    facts = describe(minikube, snapshot, lambda _driver, _name: container)
    assert facts["running"]
    assert facts["kubernetes_version"] == "v1.34.4"
    assert facts["nodes"][0]["ssh"]["port"] == 32772
    assert facts["config"]["addons"] == ["default-storageclass", "storage-provisioner"]


def test_facts_of_nothing(tmp_path: Path) -> None:
    facts = describe(Minikube(home=str(tmp_path)), Snapshot(None, None))
    assert (facts["installed"], facts["exists"], facts["running"], facts["nodes"], facts["context"]) == (
        False,
        False,
        False,
        [],
        None,
    )
