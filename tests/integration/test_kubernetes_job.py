"""kubernetes_job on the sandbox: results, failures, retries, going on after the controller was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes_job import kubernetes_job
from rig import PlaybookRunner, Sandbox

pytestmark = pytest.mark.filterwarnings("ignore:HTTPResponse.getheaders:DeprecationWarning")  # kubernetes' client

NAMESPACE = "mlops-test-job"
PROGRAM = """
import json, os, pathlib, sys, time
index, failures = int(os.environ.get("JOB_COMPLETION_INDEX", 0)), int(os.environ.get("FAILURES") or 0)
behaviour = json.loads(os.environ["BEHAVIOURS"])[index]
print(f"{behaviour} begins", flush=True)
if behaviour == "lasts":
    for second in range(6):
        print(f"second {second}", flush=True)
        time.sleep(1)
if behaviour == "hangs":
    time.sleep(600)
if behaviour == "fails" or (behaviour == "fails once" and not failures):
    sys.exit(f"no luck with {index}")
pathlib.Path("/dev/termination-log").write_text(json.dumps({"index": index, "secret": os.environ["WORD"]}))
"""


def definition(name: str, *behaviours: str, **spec: Any) -> dict[str, Any]:
    several = {"completionMode": "Indexed", "completions": len(behaviours), "parallelism": len(behaviours)}
    failures = {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-index-failure-count']"}
    container = {
        "name": "program",
        "image": "docker.io/library/python:3.13-slim",
        "imagePullPolicy": "Never",
        "command": ["python3", "-S", "/program/program.py"],
        "env": [
            {"name": "BEHAVIOURS", "value": json.dumps(behaviours)},
            {"name": "FAILURES", "valueFrom": {"fieldRef": failures}},
            {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": name, "key": "word"}}},
        ],
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "program", "configMap": {"name": name}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": (several if len(behaviours) > 1 else {}) | {"template": {"spec": pod}} | spec,
    }


def objects(name: str) -> list[dict[str, Any]]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"program.py": PROGRAM}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"word": "hush-hush"}},
    ]


def parameters(sandbox: Sandbox, job: dict[str, Any], **options: Any) -> dict[str, Any]:
    given = {"objects": objects(job["metadata"]["name"]), "index_names": [], "timeout": 60} | options
    return {"kubeconfig": str(sandbox.kubeconfig), "context": sandbox.context, "definition": job} | given


def run(asked: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The result, also that of a failure, and what was told."""
    told: list[str] = []
    try:
        return kubernetes_job(asked, check_mode=False, tell=told.append), told
    except MlopsError as error:
        return {"msg": error.message, **error.details}, told


@pytest.fixture(scope="module", autouse=True)
def namespace(sandbox: Sandbox) -> Iterator[None]:
    sandbox.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    sandbox.kubectl("create", "namespace", NAMESPACE)
    try:
        yield
    finally:
        sandbox.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A playbook that runs the Job of the variable `asked` and shows the answer."""
    tasks = [
        {"mlops.mlflow.kubernetes_job": "{{ asked }}", "register": "answer"},
        {"ansible.builtin.debug": {"msg": "answered {{ answer.result | to_json }}"}},
    ]
    path = tmp_path / "job.yml"
    path.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    return path


def test_pods_answer_and_the_next_run_begins_anew(sandbox: Sandbox) -> None:
    job = definition("pair", "works", "works")
    asked = parameters(sandbox, job, index_names=["depth 3", "depth 9"])
    result, told = run(asked)
    assert result["indexes"] == [
        {
            "index": index,
            "name": name,
            "status": "succeeded",
            "attempts": 1,
            "result": {"index": index, "secret": "hush-hush"},
        }
        for index, name in enumerate(["depth 3", "depth 9"])
    ], result
    assert (result["changed"], result["name"], result["result"]["index"]) == (True, "pair", 0)
    assert "depth 9 | works begins" in told
    assert "2/2 done" in told[-1]
    assert "hush-hush" not in str(result["diff"])

    # The old objects went with the old Job: else the new ones could not have been made.
    (first,) = sandbox.objects("job", "-n", NAMESPACE)
    again, told = run(asked)
    (second,) = sandbox.objects("job", "-n", NAMESPACE)
    assert told[0] == "Job/pair of an earlier run is removed"
    assert again["indexes"] == result["indexes"]
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    kept = sandbox.objects("configmap,secret", "-n", NAMESPACE)
    owners = [each["metadata"]["ownerReferences"][0]["uid"] for each in kept if each["metadata"]["name"] == "pair"]
    assert owners == [second["metadata"]["uid"]] * 2


@pytest.fixture(scope="module")
def failed(sandbox: Sandbox) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """What became of Jobs that cannot end well, side by side."""
    jobs = {"slow": definition("slow", "hangs"), "stuck": definition("stuck", "works", "works")}
    jobs |= {"large": definition("large", "works")}
    changes = {"stuck": {"image": "docker.io/library/none:1"}, "large": {"resources": {"requests": {"cpu": "1000"}}}}
    for name, change in changes.items():
        jobs[name]["spec"]["template"]["spec"]["containers"][0] |= change
    asked = {name: parameters(sandbox, job, timeout=10) for name, job in jobs.items()}
    sweep = definition("sweep", "works", "fails once", "fails", backoffLimitPerIndex=1)
    asked["sweep"] = parameters(sandbox, sweep, index_names=["depth 3", "depth 9", "depth 11"])
    with ThreadPoolExecutor() as pool:
        return dict(zip(asked, pool.map(run, asked.values()), strict=True))


def test_an_index_is_tried_again_and_one_that_always_fails_is_named_with_its_log(failed: dict[str, Any]) -> None:
    result, told = failed["sweep"]
    assert [(each["status"], each["attempts"]) for each in result["indexes"]] == [
        ("succeeded", 1),
        ("succeeded", 2),
        ("failed", 2),
    ], told
    assert result["indexes"][1]["result"]["index"] == 1
    assert "depth 11: exit code 1, attempts: 2; the end of its log:\n  | " in result["msg"]
    assert {"  | fails begins", "  | no luck with 2"} <= set(result["msg"].split("\n"))
    assert "depth 9:" not in result["msg"]
    assert any("depth 9: failed (exit code 1)" in line for line in told), told
    assert any("depth 9: running, attempt 2" in line or "depth 9: starting, attempt 2" in line for line in told), told


def test_the_deadline_is_kept_and_the_log_of_what_it_ended_is_told(failed: dict[str, Any]) -> None:
    result, _ = failed["slow"]
    assert "Job mlops-test-job/slow failed: Job was active longer than specified deadline." in result["msg"]
    assert "| hangs begins" in result["msg"]
    assert "more than the 10 seconds of `timeout`" in result["msg"]


def test_what_cannot_start_or_has_no_room_is_told(failed: dict[str, Any]) -> None:
    for name, why in {"stuck": "index 1: waits (ErrImageNeverPull: ", "large": "large: waits (0/1 nodes are"}.items():
        result, told = failed[name]
        assert any(why in line for line in told), told
        assert why in result["msg"]
        assert "See to what it waits for" in result["msg"]


def test_objects_of_others_are_not_taken(sandbox: Sandbox) -> None:
    sandbox.kubectl("create", "configmap", "theirs", "-n", NAMESPACE, "--from-literal=a=b")
    result, _ = run(parameters(sandbox, definition("theirs", "works")))
    assert "There is a ConfigMap/theirs in mlops-test-job already" in result["msg"]
    assert not sandbox.objects("job", "-n", NAMESPACE, "--field-selector=metadata.name=theirs")
    (kept,) = sandbox.objects("configmap", "-n", NAMESPACE, "--field-selector=metadata.name=theirs")
    assert kept["data"] == {"a": "b"}


def test_two_controllers_at_once_run_one_job(sandbox: Sandbox) -> None:
    asked = parameters(sandbox, definition("both", "works"))
    with ThreadPoolExecutor() as pool:
        results = [result for result, _ in pool.map(run, [asked, asked])]
    assert [each.get("result", each) for each in results] == [{"index": 0, "secret": "hush-hush"}] * 2
    assert len(sandbox.objects("pod", "-n", NAMESPACE, "-l", "batch.kubernetes.io/job-name=both")) == 1


def test_a_killed_controller_is_followed_by_one_that_goes_on(
    sandbox: Sandbox, playbook: PlaybookRunner, written: Path
) -> None:
    asked = parameters(sandbox, definition("long", "lasts"))
    planned = playbook(str(written), {"asked": asked}, check=True)
    assert planned.count("changed") == 1, planned.tail
    assert "hush-hush" not in planned.output
    assert not sandbox.objects("job", "-n", NAMESPACE, "--field-selector=metadata.name=long")

    command = ["ansible-playbook", "-i", str(sandbox.inventory), str(written), "-e", json.dumps({"asked": asked})]
    with subprocess.Popen(
        command, env=sandbox.environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as first:
        assert first.stdout
        said = next(line for line in first.stdout if "second 1" in line)
        os.killpg(first.pid, signal.SIGKILL)
    assert said.strip() == "second 1"
    (before,) = sandbox.objects("job", "-n", NAMESPACE, "--field-selector=metadata.name=long")
    assert not before["status"].get("succeeded")

    other = definition("long", "works")
    refused, _ = run(parameters(sandbox, other))
    assert "There is a Job mlops-test-job/long that was started with another content" in refused["msg"]

    second = playbook(str(written), {"asked": asked})
    assert "Job/long runs already" in second.output, second.tail
    assert "\n  second 5\n" in second.output
    assert '"index": 0' in second.output.replace('\\"', '"')
    (after,) = sandbox.objects("job", "-n", NAMESPACE, "--field-selector=metadata.name=long")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert len(sandbox.objects("pod", "-n", NAMESPACE, "-l", "batch.kubernetes.io/job-name=long")) == 1
