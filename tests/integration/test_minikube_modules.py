"""The Minikube modules and the inventory plugin against the sandbox's real Minikube."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rig import Sandbox

IMAGE = "mlops-test/hello:1"
BASE = "docker.io/library/python:3.13-slim"
Task = Callable[..., dict[str, Any]]


@pytest.fixture
def task(sandbox: Sandbox, tmp_path: Path) -> Task:
    """Runs one module in a play of its own; its result, with what was shown while it ran as `shown`."""

    def run(module: str, *options: str, check: bool = False, ok: bool = True, **arguments: Any) -> dict[str, Any]:
        common = {
            "profile": sandbox.profile,
            "home": str(sandbox.cache / "minikube"),
            "kubeconfig": str(sandbox.kubeconfig),
            "binary": str(sandbox.cache / "bin/minikube"),
        }
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "tasks": [
                {f"mlops.mlflow.{module}": common | arguments, "register": "done", "ignore_errors": True},
                {
                    "ansible.builtin.copy": {"content": "{{ done | to_json }}", "dest": str(tmp_path / "done.json")},
                    "check_mode": False,
                },
            ],
        }
        path = tmp_path / "play.yml"
        path.write_text(yaml.safe_dump([play]))
        shown = sandbox.run("ansible-playbook", *(["--check"] if check else []), *options, str(path), timeout=600)
        result: dict[str, Any] = json.loads((tmp_path / "done.json").read_text())
        assert bool(result.get("failed")) is not ok, result.get("msg")
        return result | {"shown": shown}

    return run


@pytest.fixture
def no_image(sandbox: Sandbox) -> Iterator[None]:
    yield
    for name in (IMAGE, IMAGE.replace(":1", ":2")):
        sandbox.minikube("image", "rm", name, check=False)


def node_images(sandbox: Sandbox) -> dict[str, str]:
    listed = json.loads(sandbox.minikube("image", "ls", "--format", "json"))
    return {tag: record["id"] for record in listed for tag in record["repoTags"]}


def dockerfile(*lines: str) -> dict[str, str]:
    return {"Dockerfile": "\n".join([f"FROM {BASE}", *lines, ""])}


def test_info(task: Task, sandbox: Sandbox) -> None:
    facts = task("minikube_info")
    assert not facts["changed"]
    assert (facts["running"], facts["driver"], facts["context"]) == (True, "docker", sandbox.profile)
    (node,) = facts["nodes"]
    assert node["ip"] == sandbox.node_address
    assert Path(node["ssh"]["private_key"]).exists()


def test_a_running_cluster_is_left_alone_and_its_settings_are_held(task: Task) -> None:
    facts = task("minikube_info")
    same = {"driver": "docker", "memory": facts["config"]["memory"], "cpus": facts["config"]["cpus"], "nodes": 1}
    assert not task("minikube_cluster", **same)["changed"]
    for check in (True, False):
        refused = task("minikube_cluster", check=check, ok=False, driver="kvm2", memory="512", nodes=2)
        assert "driver is docker, wanted kvm2; memory is" in refused["msg"]
        assert "nodes is 1, wanted 2" in refused["msg"]
    assert task("minikube_info")["running"]


def test_the_inventory_reaches_the_node_as_it_is_published_now(sandbox: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "sandbox.minikube.yml"
    source.write_text(f"plugin: mlops.mlflow.minikube\nprofile: {sandbox.profile}\nhome: {sandbox.cache}/minikube\n")
    said = sandbox.run(
        "ansible", "-i", str(source), "minikube_nodes", "-m", "ansible.builtin.raw", "-a", "sudo -n id -u"
    )
    assert f"{sandbox.profile} | CHANGED | rc=0 >>\n0" in said


def test_an_image_is_built_once_with_its_steps_shown_and_its_files_kept(
    task: Task, sandbox: Sandbox, no_image: None
) -> None:
    files = dockerfile("ARG WHO=nobody", "COPY sub/secret.py /", 'RUN echo "built for $WHO" && sleep 1') | {
        "sub/secret.py": "print('hidden-from-logs')\n"
    }
    assert task("minikube_image", check=True, name=IMAGE, files=files)["changed"]
    first = task("minikube_image", "-vvv", "--diff", name=IMAGE, files=files, build_args={"WHO": "a $(b) 'c'"})
    assert first["changed"]
    assert first["image"]["id"] == "sha256:" + node_images(sandbox)[f"docker.io/{IMAGE}"]
    assert "[2/3] COPY sub/secret.py /" in first["shown"]
    assert "hidden-from-logs" not in first["shown"]
    assert "progress_file" not in first.get("invocation", {}).get("module_args", {})
    assert not task("minikube_image", name=IMAGE, files=files)["changed"]


def test_a_failed_build_is_an_error_and_leaves_the_old_image_and_nothing_else(
    task: Task, sandbox: Sandbox, no_image: None
) -> None:
    before = task("minikube_image", name=IMAGE, files=dockerfile())["image"]["id"]
    failed = task("minikube_image", ok=False, force=True, name=IMAGE, files=dockerfile("RUN echo oops && false"))
    assert "at step [2/2] RUN echo oops && false" in failed["msg"]
    assert "oops" in "\n".join(failed["output_tail"])
    images = node_images(sandbox)
    assert "sha256:" + images[f"docker.io/{IMAGE}"] == before
    assert not [name for name in images if "mlops-build" in name]
    changed = task("minikube_image", force=True, name=IMAGE, files=dockerfile("RUN echo fine"))
    assert changed["changed"]
    assert changed["image"]["id"] != before
    assert not [name for name in node_images(sandbox) if "mlops-build" in name]


@pytest.mark.parametrize(
    ("lines", "base", "reason", "said"),
    [
        ([], "docker.io/library/no-such-image:9", "base_image", "docker.io/library/no-such-image:9"),
        (
            ["RUN python3 -m venv /v && /v/bin/pip install --index-url https://index.invalid/simple mlflow"],
            BASE,
            "package_index",
            "does not reach the package index",
        ),
    ],
)
def test_what_a_build_cannot_reach_is_named(
    task: Task, no_image: None, lines: list[str], base: str, reason: str, said: str
) -> None:
    files = {"Dockerfile": "\n".join([f"FROM {base}", *lines, ""])}
    failed = task("minikube_image", ok=False, name=IMAGE.replace(":1", ":2"), files=files)
    assert (failed["reason"], said in failed["msg"]) == (reason, True), failed["msg"]


def test_an_archive_is_loaded_and_removed_and_what_silently_fails_is_an_error(
    task: Task, sandbox: Sandbox, no_image: None, tmp_path: Path
) -> None:
    task("minikube_image", name=IMAGE, files=dockerfile("RUN echo one"))
    archive, damaged = tmp_path / "image.tar", tmp_path / "damaged.tar"
    sandbox.minikube("image", "save", IMAGE, str(archive))
    with tarfile.open(archive) as whole, tarfile.open(damaged, "w") as part:
        part.addfile(whole.getmember("manifest.json"), whole.extractfile("manifest.json"))
    assert not task("minikube_image", name=IMAGE, archive=str(archive))["changed"]
    second = task("minikube_image", name=IMAGE, files=dockerfile("RUN echo two"), force=True)["image"]["id"]
    undone = task("minikube_image", ok=False, name=IMAGE, archive=str(damaged))
    assert undone["reason"] == "not_loaded"
    assert f"its image is still {second}" in undone["msg"]

    node = ("docker", "exec", sandbox.profile, "docker")
    subprocess.run([*node, "run", "-d", "--name", "mlops-test", IMAGE, "sleep", "600"], check=True, capture_output=True)
    try:
        kept = task("minikube_image", ok=False, name=IMAGE, state="absent")
        assert "still in the node" in kept["msg"]
    finally:
        subprocess.run([*node, "rm", "-f", "mlops-test"], check=True, capture_output=True)
    assert task("minikube_image", name=IMAGE, archive=str(archive))["changed"]
    assert task("minikube_image", name=IMAGE, state="absent")["changed"]
    assert not task("minikube_image", name=IMAGE, state="absent")["changed"]


def test_an_addon_that_is_enabled_is_left_alone_and_an_unknown_one_told(task: Task) -> None:
    assert not task("minikube_addon", name="storage-provisioner")["changed"]
    assert "has no addon 'ingres'" in task("minikube_addon", ok=False, check=True, name="ingres")["msg"]
    assert task("minikube_addon", check=True, name="ingress")["changed"]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("minikube_cluster", {"driver": "docker"}),
        ("minikube_image", {"name": IMAGE, "files": {"Dockerfile": "FROM scratch\n"}}),
        ("minikube_addon", {"name": "ingress"}),
    ],
)
def test_check_mode_on_a_machine_without_a_cluster(task: Task, module: str, arguments: dict[str, Any]) -> None:
    for binary in ({}, {"binary": "/nowhere/minikube"}):
        assert task(module, check=True, profile="mlops-test-none", **binary, **arguments)["changed"]
    assert not task("minikube_info", profile="mlops-test-none")["exists"]
