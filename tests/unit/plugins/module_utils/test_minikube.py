"""What Minikube's answers mean, on answers recorded from v1.38.1, and how its program is called."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _minikube as mk
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_run import Result

FIXTURES = Path(__file__).parents[2] / "fixtures/minikube"


def program(tmp_path: Path, script: str) -> mk.Minikube:
    path = tmp_path / "minikube"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return mk.Minikube(profile="mlflow", binary=str(path), home=str(tmp_path), kubeconfig=str(tmp_path / "kubeconfig"))


def make_profile(home: Path, name: str = "mlflow", **settings: object) -> None:
    config = json.loads((FIXTURES / "profile-docker.json").read_text()) | {"Name": name} | settings
    path = home / ".minikube/profiles" / name / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))


def test_a_status_of_one_node_is_an_object() -> None:
    (node,) = mk.parse_status((FIXTURES / "status-running.json").read_text())
    assert node.name == "mlflow-sandbox"
    assert node.running


def test_a_stopped_node_does_not_run() -> None:
    (node,) = mk.parse_status((FIXTURES / "status-stopped.json").read_text())
    assert not node.running


def test_a_status_of_several_nodes_is_an_array_with_workers() -> None:
    first = json.loads((FIXTURES / "status-running.json").read_text())
    worker = first | {"Name": "m-m02", "APIServer": "Irrelevant", "Kubeconfig": "Irrelevant", "Worker": True}
    nodes = mk.parse_status(json.dumps([first, worker]))
    assert [node.running for node in nodes] == [True, True]


@pytest.mark.parametrize("answer", ["null", "", (FIXTURES / "status-missing-profile.txt").read_text()])
def test_no_machine_and_no_profile_are_no_nodes(answer: str) -> None:
    assert mk.parse_status(answer) == ()


@pytest.mark.parametrize("name", ["minikube", "ml", "team-a", "a.b", "m1x", "mlflow-sandbox"])
def test_names_of_profiles(name: str) -> None:
    mk.check_profile_name(name, new=True)


@pytest.mark.parametrize("name", ["x", "", "a_b", "-ab", "ab-", "a b", "../up", "ab\n", "Stop", "m2", "team-m02"])
def test_names_that_minikube_refuses_or_stumbles_over(name: str) -> None:
    with pytest.raises(MlopsError):
        mk.check_profile_name(name, new=True)


def test_a_profile_with_a_node_like_name_that_exists_can_be_handled() -> None:
    mk.check_profile_name("m2", new=False)


def test_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert [mk.check_driver(name) for name in ("docker", "kvm", "Generic", "native")] == [
        "docker",
        "kvm2",
        "ssh",
        "none",
    ]
    with pytest.raises(MlopsError, match=r"no driver 'dokcer'.*docker, podman, kvm2"):
        mk.check_driver("dokcer")


@pytest.mark.parametrize(("text", "numbers"), [("v1.34.4", (1, 34, 4)), ("1.34", (1, 34)), ("stable", None)])
def test_versions(text: str, numbers: tuple[int, ...] | None) -> None:
    assert mk.parse_version(text) == numbers


def test_old_versions_are_refused() -> None:
    mk.check_minikube_version("v1.34.0")
    mk.check_kubernetes_version("v1.30.0")
    with pytest.raises(MlopsError, match=r"Minikube v1\.33\.1 is too old: v1\.34\.0 or newer"):
        mk.check_minikube_version("v1.33.1")
    with pytest.raises(MlopsError, match=r"Kubernetes v1\.29\.9 is too old: 1\.30 or newer"):
        mk.check_kubernetes_version("v1.29.9")


def test_minikube_home_may_name_the_folder_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mk.mini_path("/srv/x") == Path("/srv/x/.minikube")
    assert mk.mini_path("/srv/.minikube") == Path("/srv/.minikube")
    monkeypatch.setenv("MINIKUBE_HOME", "/from/environment")
    assert mk.mini_path(None) == Path("/from/environment/.minikube")
    monkeypatch.delenv("MINIKUBE_HOME")
    assert mk.mini_path(None) == Path.home() / ".minikube"


def test_the_kubeconfig_is_the_first_of_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["", "/a", "/b"]))
    assert mk.kubeconfig_path(None) == "/a"
    assert mk.kubeconfig_path("/c") == "/c"


def test_events_and_other_lines() -> None:
    line = json.dumps({"type": "io.k8s.sigs.minikube.step", "data": {"name": "Done", "message": " Done! "}})
    event = mk.parse_event(line)
    assert event is not None
    assert (event.kind, event.message) == ("step", "Done!")
    for other in ("", "! warning", "{broken", '{"type": "else", "data": {}}', "[]", '{"data": 1}'):
        assert mk.parse_event(other) is None


def failure(*lines: str, rc: int = 80) -> MlopsError:
    return mk.explain_failure("`minikube start`", Result(("minikube", "start"), rc, "", lines, 0.1))


def test_the_box_that_asks_for_an_issue_is_not_the_cause() -> None:
    def event(kind: str, message: str) -> str:
        return json.dumps({"type": f"io.k8s.sigs.minikube.{kind}", "data": {"message": message}})

    lines = (
        event("warning", "docker did not start"),
        event("error", "\u256d\u2500\u256e\n\u2502 please let us know \u2502"),
    )
    error = failure(*lines, rc=90)
    assert "please let us know" not in error.message
    assert "docker did not start" in error.message


def test_a_failure_has_message_advice_and_the_name_of_its_exit_code() -> None:
    data = {"message": "Docker is not running", "advice": "Start the service", "name": "PROVIDER_DOCKER_NOT_RUNNING"}
    error = failure("E1124 noise", json.dumps({"type": "io.k8s.sigs.minikube.error", "data": data}), rc=63)
    assert error.message == (
        "`minikube start` failed (exit code 63: driver's provider is not running). Docker is not running."
        " Start the service"
    )
    assert error.details["reason"] == "PROVIDER_DOCKER_NOT_RUNNING"
    assert error.details["output_tail"] == ["E1124 noise"]


def test_a_failure_without_events_has_the_last_lines() -> None:
    assert "X Exiting due to GUEST" in failure("* one", "X Exiting due to GUEST").message


def test_the_profile_and_the_environment_are_given_and_not_read_from_elsewhere(tmp_path: Path) -> None:
    minikube = program(tmp_path, 'echo "$@"; echo "$MINIKUBE_HOME $KUBECONFIG $MINIKUBE_IN_STYLE"')
    result = minikube.run("status", "-o", "json")
    assert result.stdout.splitlines() == [
        "-p mlflow status -o json",
        f"{tmp_path}/.minikube {tmp_path}/kubeconfig false",
    ]


def test_arguments_do_not_reach_a_shell(tmp_path: Path) -> None:
    minikube = program(tmp_path, 'printf "%s\\n" "$4"')
    assert minikube.run("start", "$(touch oops); 'x'").stdout == "$(touch oops); 'x'\n"


def test_lines_come_while_the_program_runs(tmp_path: Path) -> None:
    minikube = program(tmp_path, "echo one; echo two >&2; sleep 0.5; echo three")
    started = time.monotonic()
    came = {}
    minikube.run("start", on_line=lambda line: came.setdefault(line, time.monotonic() - started))
    assert came.keys() == {"one", "two", "three"}
    assert max(came["one"], came["two"]) < 0.4 < came["three"]


def test_a_program_that_does_not_end_is_stopped_with_its_children(tmp_path: Path) -> None:
    minikube = program(tmp_path, f"echo starting; sleep 60 & echo $! > {tmp_path}/child; wait")
    started = time.monotonic()
    with pytest.raises(MlopsError, match=r"did not end within 1 seconds(?s:.*)starting"):
        minikube.run("start", timeout=1)
    assert time.monotonic() - started < 5
    child = int((tmp_path / "child").read_text())
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_a_program_that_nobody_waits_for_is_stopped(tmp_path: Path) -> None:
    minikube = program(tmp_path, "sleep 60")
    lines = tmp_path / "lines"
    lines.touch()
    minikube.wanted = mk.Progress(str(lines)).watched
    threading.Timer(0.5, lines.unlink).start()
    started = time.monotonic()
    with pytest.raises(MlopsError, match="the playbook that waited for it is gone"):
        minikube.run("start")
    assert time.monotonic() - started < 5


def test_a_missing_program_says_how_to_install_it(tmp_path: Path) -> None:
    minikube = mk.Minikube(binary=str(tmp_path / "none"))
    assert minikube.version() is None
    with pytest.raises(MlopsError, match=r"was not found\. Install Minikube \(https://minikube"):
        minikube.run("status")


def test_the_version_of_a_program_that_is_not_minikube(tmp_path: Path) -> None:
    with pytest.raises(MlopsError, match="for its version failed"):
        program(tmp_path, "echo hello").version()


ANSWERS = f"""
case "$3" in
version) cat {FIXTURES}/version.json;;
status) cat {FIXTURES}/status-${{STATUS:-running}}.json;;
esac
"""


def test_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minikube = program(tmp_path, ANSWERS)
    assert minikube.snapshot().state == "absent"
    make_profile(tmp_path)
    assert minikube.snapshot().state == "running"
    assert minikube.snapshot().version == "v1.38.1"
    monkeypatch.setenv("STATUS", "stopped")
    assert minikube.snapshot().state == "stopped"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"Driver": "docker", "Nodes": [{"KubernetesVersion": ""}]}'])
def test_a_profile_that_a_killed_start_left_is_incomplete(tmp_path: Path, content: str) -> None:
    make_profile(tmp_path)
    (tmp_path / ".minikube/profiles/mlflow/config.json").write_text(content)
    snapshot = program(tmp_path, ANSWERS).snapshot()
    assert (snapshot.exists, snapshot.state) == (True, "incomplete")


def test_a_paused_cluster() -> None:
    node = mk.NodeStatus("n", "Running", "Stopped", "Paused", "Configured", worker=False)
    config = json.loads((FIXTURES / "profile-docker.json").read_text())
    assert mk.Snapshot("v1", mk.Profile("n", config), (node,)).state == "paused"


def test_names_of_nodes() -> None:
    nodes = [
        {"Name": "", "IP": "1", "ControlPlane": True, "KubernetesVersion": "v1"},
        {"Name": "m02", "IP": "2", "KubernetesVersion": "v1"},
    ]
    assert [node.machine for node in mk.Profile("team", {"Nodes": nodes}).nodes] == ["team", "team-m02"]
    # With the none driver the only node is called m01, and its machine like the profile.
    assert [node.machine for node in mk.Profile("team", {"Nodes": [{"Name": "m01"}]}).nodes] == ["team"]


def test_progress_is_appended_with_the_time(tmp_path: Path) -> None:
    progress = mk.Progress(str(tmp_path / "lines"))
    progress("[1/2] One")
    progress("[2/2] Two")
    assert (tmp_path / "lines").read_text() == "[1/2] One (0 s)\n[2/2] Two (0 s)\n"
    mk.Progress(None)("nowhere")
    mk.Progress(str(tmp_path / "gone/lines"))("nowhere")
