"""The life of a cluster of its own: made, paused, stopped, killed while it starts, deleted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rig import Sandbox

PROFILE = "mlops-test-life"
START_SECONDS = 600


@dataclass
class Life:
    sandbox: Sandbox
    folder: Path

    def playbook(self, state: str) -> list[str]:
        cluster = {
            "profile": PROFILE,
            "home": str(self.sandbox.cache / "minikube"),
            "kubeconfig": str(self.sandbox.kubeconfig),
            "binary": str(self.sandbox.cache / "bin/minikube"),
            "state": state,
        }
        if state == "started":
            existing = self.config(self.sandbox.profile)
            cluster |= {
                "driver": "docker",
                "container_runtime": "docker",
                "kubernetes_version": existing["KubernetesConfig"]["KubernetesVersion"],
                "memory": "2200mb",
                "start_options": {"force": True, "keep-context": True, "base-image": existing["KicBaseImage"]},
            }
        result = {"content": "{{ done | to_json }}", "dest": str(self.folder / "done.json")}
        tasks = [
            {"mlops.mlflow.minikube_cluster": cluster, "register": "done"},
            {"ansible.builtin.copy": result, "check_mode": False},
        ]
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
        path = self.folder / f"{state}.yml"
        path.write_text(yaml.safe_dump([play]))
        return ["ansible-playbook", str(path)]

    def config(self, profile: str) -> dict[str, Any]:
        path = self.sandbox.cache / "minikube/.minikube/profiles" / profile / "config.json"
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def bring(self, state: str, *, check: bool = False) -> dict[str, Any]:
        shown = self.sandbox.run(*self.playbook(state), *(["--check"] if check else []), timeout=START_SECONDS)
        done: dict[str, Any] = json.loads((self.folder / "done.json").read_text())
        return done | {"shown": shown}

    def hosts(self) -> tuple[list[str], str]:
        """The nodes in the inventory, and what was warned of."""
        source = self.folder / "life.minikube.yml"
        source.write_text(f"plugin: mlops.mlflow.minikube\nprofile: {PROFILE}\nhome: {self.sandbox.cache}/minikube\n")
        done = subprocess.run(
            ["ansible-inventory", "-i", str(source), "--list"],
            env=self.sandbox.environment | {"COLUMNS": "999"},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout).get("minikube_nodes", {}).get("hosts", []), done.stderr


@pytest.fixture(scope="module")
def life(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    life = Life(sandbox, tmp_path_factory.mktemp("life"))
    life.bring("absent")
    yield life
    life.bring("absent")


def test_a_start_that_is_interrupted_leaves_no_process_and_goes_on(life: Life) -> None:
    assert life.bring("started", check=True)["changed"]
    interrupted = subprocess.Popen(
        life.playbook("started"), env=life.sandbox.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    machine = life.sandbox.cache / "minikube/.minikube/machines" / PROFILE / "config.json"
    deadline = time.monotonic() + 120
    while not machine.exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    interrupted.send_signal(signal.SIGINT)
    interrupted.wait(timeout=30)
    deadline = time.monotonic() + 30
    while processes(PROFILE, "start"):
        assert time.monotonic() < deadline, "minikube start goes on without the playbook"
        time.sleep(0.5)

    done = life.bring("started")
    assert done["changed"]
    assert done["running"]
    assert "Preparing Kubernetes" in done["shown"]
    assert any(step["name"] == "Verifying Kubernetes" for step in done["steps"])


def processes(*words: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if command[0].endswith("/minikube") and all(word in command for word in words):
                found.append(int(entry.name))
    return found


def test_the_way_through_all_states(life: Life) -> None:
    assert life.bring("started")["running"]
    assert not life.bring("started")["changed"]
    assert life.hosts()[0] == [PROFILE]
    for state, expected in (("paused", "paused"), ("started", "running"), ("stopped", "stopped")):
        assert life.bring(state, check=True)["changed"]
        done = life.bring(state)
        assert (done["changed"], done["state"]) == (True, expected)
        assert not life.bring(state)["changed"]
    hosts, said = life.hosts()
    assert hosts == []
    assert "is not running" in said
    assert life.bring("started", check=True)["changed"]  # test_node_life.py starts a stopped cluster again


def test_deleting_leaves_the_sandbox_alone(life: Life) -> None:
    assert life.bring("absent")["changed"]
    assert not life.bring("absent")["changed"]
    hosts, said = life.hosts()
    assert hosts == []
    assert f"no Minikube profile '{PROFILE}'" in " ".join(said.split())
    assert life.sandbox.kubectl("get", "nodes", "-o", "name").strip() == f"node/{life.sandbox.profile}"
