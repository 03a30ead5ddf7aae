"""What kubernetes_job decides and tells, on what a Kubernetes 1.34 answered (cut to what is read)."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _kubernetes_job as jobs
from ansible_collections.mlops.mlflow.plugins.module_utils import _kubernetes_pod as pods
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes import ApiError, UnreachableError

JOB: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "sweep", "namespace": "n"},
    "spec": {
        "completionMode": "Indexed",
        "completions": 3,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}},
    },
}
SINGLE = JOB | {"spec": {"template": JOB["spec"]["template"]}}
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": {"a": "b"}}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "namespace": "n"},
    "stringData": {"w": "hush"},
}
FAILED = {
    "completedIndexes": "0",
    "conditions": [
        {"type": "Suspended", "status": "False", "lastTransitionTime": "2026-11-24T15:35:45Z"},
        {
            "type": "Failed",
            "status": "True",
            "reason": "FailedIndexes",
            "message": "Job has failed indexes",
            "lastTransitionTime": "2026-11-24T15:35:59Z",
        },
    ],
    "failedIndexes": "1-2",
    "startTime": "2026-11-24T15:35:45Z",
}
COMPLETE = {
    "completedIndexes": "0-2",
    "succeeded": 3,
    "startTime": "2026-11-24T15:35:45Z",
    "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-24T15:36:45Z"}],
}


def running(job: dict[str, Any] = JOB, timeout: int = 60, **status: Any) -> dict[str, Any]:
    """The Job as the server has it."""
    found = jobs.planned(job, [], timeout)
    return found | {"metadata": found["metadata"] | {"uid": "u"}, "status": status}


def pod(phase: str, index: int = 0, at: int = 0, state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """A pod; `state` is its container's."""
    containers = [{"name": "c", "image": "img:1", "state": state}] if state else []
    return {
        "metadata": {
            "name": f"sweep-{index}-{at}",
            "namespace": "n",
            "uid": f"{index}-{at}",
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            "creationTimestamp": f"2026-11-24T15:35:{at:02}Z",
        },
        "spec": {"containers": [{"name": "c"}]},
        "status": {"phase": phase, "containerStatuses": containers} | status,
    }


def terminated(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


RUNNING = {"running": {"startedAt": "2026-11-24T15:35:46Z"}}
ROOM = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available."
REFUSED = 'Error response from daemon: Get "http://127.0.0.1:9/v2/": connection refused'
COMMAND = 'exec: "trian": executable file not found in $PATH: unknown'


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (pod("Pending"), "starting"),
        (pod("Pending", state={"waiting": {"reason": "ContainerCreating"}}), "starting"),
        (
            pod("Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": ROOM}]),
            "waits (0/1 nodes are available: 1 Insufficient cpu)",
        ),
        (
            pod("Pending", state={"waiting": {"reason": "ErrImagePull", "message": REFUSED}}),
            f"waits (ErrImagePull: {REFUSED})",
        ),
        (
            pod(
                "Pending",
                state={
                    "waiting": {
                        "reason": "ImagePullBackOff",
                        "message": f'Back-off pulling image "img:1": ErrImagePull: {REFUSED}',
                    }
                },
            ),
            f"waits (ErrImagePull: {REFUSED})",
        ),
        (pod("Running", state=RUNNING), "running"),
        (pod("Succeeded", state=terminated(0, "Completed")), "done"),
        (pod("Failed", state=terminated(1)), "failed (exit code 1)"),
        (pod("Failed", state=terminated(137, "OOMKilled")), "failed (OOMKilled, exit code 137)"),
        (
            pod("Failed", state=terminated(127, "ContainerCannotRun", COMMAND)),
            f"failed (ContainerCannotRun, exit code 127: {COMMAND})",
        ),
        (pod("Failed", reason="Evicted", message="out of disk"), "failed (Evicted: out of disk)"),
        (pod("Failed"), "failed (ended by Kubernetes)"),
    ],
)
def test_what_a_pod_does_is_told(found: dict[str, Any], told: str) -> None:
    assert pods.state(found) == told


def test_of_a_failed_init_container_it_is_the_one_that_speaks() -> None:
    found = pod("Failed", state={"waiting": {"reason": "PodInitializing"}})
    found["status"]["initContainerStatuses"] = [{"name": "fetch", "image": "img:1", "state": terminated(3)}]
    assert pods.state(found) == "failed (exit code 3)"
    assert (pods.speaker(found) or {})["name"] == "fetch"


@pytest.mark.parametrize(
    ("message", "answer"), [('{"run": "r"}', {"run": "r"}), ("[1]", None), ("", None), ('{"run": "cut o', None)]
)
def test_an_answer_is_a_json_object(message: str, answer: Any) -> None:
    assert pods.answer(pod("Succeeded", state=terminated(0, "Completed", message))) == answer


def test_a_line_of_a_log_is_taken_once() -> None:
    log = pods.Log()
    assert log.take("2026-11-24T15:00:00.1Z one\n2026-11-24T15:00:00.2Z two  words\n") == ["one", "two  words"]
    # Asked with sinceTime, which counts whole seconds, the server repeats what is of the same second.
    assert log.take("2026-11-24T15:00:00.1Z one\n2026-11-24T15:00:00.2Z two  words\n2026-11-24T15:00:00.3Z \n") == [""]
    assert log.take("2026-11-24T15:00:01.0Z  10%\r 90%\r100%\r\n") == ["100%"]
    assert log.take("") == []
    assert list(log.tail) == ["one", "two  words", "", "100%"]


def test_the_lists_of_indexes_are_read() -> None:
    assert jobs.index_set("") == set()
    assert jobs.index_set("0,2-4,7") == {0, 2, 3, 4, 7}


def test_the_digest_is_that_of_the_content_and_not_of_its_order_or_its_timeout() -> None:
    def digest(*arguments: Any) -> str:
        return str(jobs.planned(*arguments)["metadata"]["annotations"][jobs.DIGEST])

    assert digest(JOB, [CONFIG], 1) == digest(dict(reversed(JOB.items())), [CONFIG], 2)
    assert digest(JOB, [CONFIG], 1) != digest(JOB, [], 1)
    assert digest(JOB, [CONFIG], 1) != digest(SINGLE, [CONFIG], 1)
    assert jobs.planned(JOB, [], 7)["spec"]["activeDeadlineSeconds"] == 7


def test_what_is_done_about_a_job_of_that_name() -> None:
    planned = jobs.planned(JOB, [], 60)
    assert jobs.decide(None, planned, "ctx") == "create"
    assert jobs.decide(running(), planned, "ctx") == "adopt"
    assert jobs.decide(running(SINGLE, **FAILED), planned, "ctx") == "replace"
    assert jobs.decide(running(**COMPLETE), planned, "ctx") == "replace"
    leaving = running(SINGLE)
    leaving["metadata"]["deletionTimestamp"] = "2026-11-24T15:36:45Z"
    assert jobs.decide(leaving, planned, "ctx") == "replace"
    with pytest.raises(MlopsError, match=r"Job n/sweep that was .* another content.*kubectl --context ctx -n n delete"):
        jobs.decide(running(SINGLE), planned, "ctx")


def test_a_job_that_somebody_else_made_is_never_removed() -> None:
    theirs = JOB | {"status": COMPLETE}
    with pytest.raises(MlopsError, match="another content"):
        jobs.decide(theirs, jobs.planned(JOB, [], 60), "ctx")


@pytest.mark.parametrize(
    ("job", "objects", "timeout", "said"),
    [
        (CONFIG, [], 1, "must be a Job of batch/v1"),
        (JOB | {"metadata": {"name": "sweep"}}, [], 1, "needs metadata.namespace"),
        (JOB | {"spec": {}}, [], 1, "needs restartPolicy Never"),
        (JOB | {"spec": SINGLE["spec"] | {"completions": 2}}, [], 1, "needs completionMode Indexed"),
        (JOB, [], 0, "must be 1 second or more"),
        (JOB, [{"kind": "ConfigMap"}], 1, "needs a kind and a name"),
        (JOB, [CONFIG | {"metadata": {"name": "c", "namespace": "m"}}], 1, "ConfigMap/c must be in the namespace"),
        (JOB, [CONFIG | {"kind": "Pod"}], 1, "Pod is not among the kinds"),
    ],
)
def test_what_cannot_be_run_is_told_first(job: Any, objects: Any, timeout: int, said: str) -> None:
    with pytest.raises(MlopsError, match=said):
        jobs.check(job, objects, timeout)


def test_check_mode_needs_no_cluster_and_hides_secrets() -> None:
    asked = {"definition": JOB, "objects": [CONFIG, SECRET], "timeout": 60}
    result = jobs.kubernetes_job(asked, check_mode=True, tell=print)
    assert result["changed"]
    assert [each["after_header"] for each in result["diff"]] == ["Job/sweep", "ConfigMap/c", "Secret/s"]
    assert "hush" not in str(result)


def test_only_news_are_told() -> None:
    seen = jobs.Seen(running(), ["depth 3", "depth 9"])
    assert seen.news() == ""
    first = pod("Failed", 1, state=terminated(1))
    seen.update(running(completedIndexes="0"), [first, pod("Running", 2, state=RUNNING)])
    assert seen.news() == "1/3 done; depth 3: done; depth 9: failed (exit code 1); index 2: running"
    assert seen.news() == ""
    seen.update(seen.job, [first, pod("Running", 1, at=12, state=RUNNING)])
    assert seen.news() == "1/3 done; depth 9: running, attempt 2"
    single = jobs.Seen(running(SINGLE), [])
    single.update(single.job, [pod("Running", state=RUNNING)])
    assert single.news() == "sweep: running"


def test_a_failure_names_what_failed_and_the_end_of_its_log() -> None:
    seen = jobs.Seen(running(), ["depth 3", "depth 9", "depth 11"])
    answered = terminated(0, "Completed", '{"run": "r"}')
    tried = [pod("Failed", 1, at, state=terminated(1)) for at in (1, 12)]
    seen.update(running(**FAILED), [pod("Succeeded", 0, state=answered), *tried])
    seen.logs["1-12"] = pods.Log()
    seen.logs["1-12"].take("".join(f"T line {number}\n" for number in range(20)))
    assert [tuple(each.values()) for each in seen.indexes()] == [
        (0, "depth 3", "succeeded", 1, {"run": "r"}),
        (1, "depth 9", "failed", 2, None),
        (2, "depth 11", "failed", 0, None),
    ]
    said = seen.failure("ctx").split("\n")
    assert said[:3] == [
        "Job n/sweep failed: Job has failed indexes.",
        "depth 9: exit code 1, attempts: 2; the end of its log:",
        "  | line 5",
    ]
    assert said[-2] == "depth 11: not started."
    assert said[-1].startswith("Correct the cause and run again")
    assert jobs.seconds(seen.job) == 14


def test_what_a_pod_waited_for_is_known_after_its_deletion() -> None:
    seen = jobs.Seen(running(SINGLE), [])
    seen.update(seen.job, [pod("Pending", state={"waiting": {"reason": "ErrImagePull", "message": REFUSED}})])
    deleted = pod("Pending", state={"waiting": {"reason": "ContainerCreating"}})
    deleted["metadata"]["deletionTimestamp"] = "2026-11-24T15:36:45Z"
    seen.update(running(SINGLE, **FAILED | {"completedIndexes": ""}), [deleted])
    assert f"sweep: waits (ErrImagePull: {REFUSED}), attempts: 1; it logged nothing." in seen.failure("ctx")
    assert "See to what it waits for and run again" in seen.failure("ctx")


@pytest.mark.parametrize(
    ("condition", "state", "advice"),
    [
        ("DeadlineExceeded", RUNNING, "Give it more than the 60 seconds of `timeout`"),
        ("BackoffLimitExceeded", terminated(137, "OOMKilled"), "Give its container a higher memory limit"),
    ],
)
def test_the_advice_is_by_the_reason(condition: str, state: dict[str, Any], advice: str) -> None:
    ended = running(SINGLE, conditions=[{"type": "Failed", "status": "True", "reason": condition}])
    seen = jobs.Seen(ended, [])
    seen.update(ended, [pod("Failed" if "terminated" in state else "Running", state=state)])
    assert advice in seen.failure("ctx")


class Server:
    """Answers in the place of a connection: each request with the next answer; notes what was asked."""

    context = "ctx"

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), []

    def next(self, method: str, what: str, **options: Any) -> Any:
        self.asked.append((method, what, options.get("body")))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def json(self, method: str, path: str, **options: Any) -> Any:
        return self.next(method, path.rsplit("/", 1)[1], **options)

    def read(self, method: str, path: str, **options: Any) -> Any:
        return self.next(method, path.rsplit("/", 1)[1], **options)

    def find(self, kind: str, name: str, namespace: str) -> Any:
        return self.next("FIND", f"{kind}/{name}")


SUSPENDED = running() | {"spec": JOB["spec"] | {"suspend": True}}
TAKEN = ApiError("already exists", 409)


def start(server: Server, *objects: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    return jobs.start(server, jobs.planned(JOB, [], 60), objects, print)  # type: ignore[arg-type]


def test_no_pod_starts_before_its_objects_are_there() -> None:
    server = Server(None, SUSPENDED, CONFIG, running())
    assert start(server, CONFIG) == (SUSPENDED, True)
    assert [(method, what) for method, what, _ in server.asked] == [
        ("FIND", "Job/sweep"),
        ("POST", "jobs"),
        ("POST", "configmaps"),
        ("PATCH", "sweep"),
    ]
    bodies = [body for _, _, body in server.asked]
    assert bodies[1]["spec"]["suspend"] is True
    assert bodies[2]["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert bodies[3]["spec"] == {"suspend": False, "activeDeadlineSeconds": 60}


def test_the_second_of_two_controllers_takes_what_the_first_made() -> None:
    owned = jobs.owned(CONFIG, SUSPENDED)
    server = Server(None, TAKEN, SUSPENDED, TAKEN, owned, running())
    assert start(server, CONFIG) == (SUSPENDED, False)


def test_where_an_object_cannot_be_made_the_job_does_not_stay() -> None:
    server = Server(None, SUSPENDED, TAKEN, CONFIG, {}, None)
    with pytest.raises(MlopsError, match="ConfigMap/c in n already that does not belong to Job sweep"):
        start(server, CONFIG)
    assert server.asked[4] == (
        "DELETE",
        "sweep",
        {"propagationPolicy": "Foreground", "preconditions": {"uid": "u"}},
    )


def test_a_server_that_is_away_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL", 0)
    away, starting = UnreachableError("nobody answers."), ApiError("still starting.", 503)
    ended = pod("Succeeded", state=terminated(0, "Completed"))
    listing = {"items": [ended]}
    server = Server(away, away, running(SINGLE), starting, running(SINGLE, **COMPLETE), listing, b"T hello\n")
    told: list[str] = []
    jobs.follow(server, jobs.Seen(running(SINGLE), []), 60, told.append)  # type: ignore[arg-type]
    assert told == [
        "nobody answers. Asking again; the Job goes on meanwhile.",
        "The API server answers again",
        "hello",
        "sweep: done",
    ]


def test_a_server_that_stays_away_or_refuses_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "GRACE", 0)
    for error in (UnreachableError("nobody answers."), ApiError("forbidden.", 403)):
        with pytest.raises(type(error)):
            jobs.follow(Server(error), jobs.Seen(running(), []), 0, print)  # type: ignore[arg-type]


def test_a_job_that_is_removed_meanwhile_is_an_error() -> None:
    for found in (None, running() | {"metadata": {"uid": "another"}}):
        with pytest.raises(MlopsError, match="Job/sweep was removed by somebody else"):
            jobs.follow(Server(found), jobs.Seen(running(), []), 60, print)  # type: ignore[arg-type]


def test_a_job_that_kubernetes_does_not_end_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "GRACE", -1)
    with pytest.raises(MlopsError, match="did not end Job/sweep after its deadline of 0 s"):
        jobs.follow(Server(running(), {"items": []}), jobs.Seen(running(), []), 0, print)  # type: ignore[arg-type]
