"""The sandbox's own logic: the order of its steps, their keys, and going on after an interruption."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "sandbox"))

import components
import engine
import sandbox
from steps import Build, SandboxError, Step, Work, closure, digests, duration, locked


def _step(name: str, *needs: str, made: list[str] | None = None, **options: object) -> Step:
    def make(work: Work) -> None:
        (work.out / "made").write_text(" ".join(work.needs[need].name for need in needs))
        if made is not None:
            made.append(name)

    return dataclasses.replace(Step(name, "making", make, needs=needs), **options)


def test_closure_keeps_the_order_and_leaves_out_what_nobody_needs() -> None:
    steps = [_step("a"), _step("b"), _step("c", "a"), _step("d", "c"), _step("e")]
    assert [step.name for step in closure(steps, ["d"])] == ["a", "c", "d"]


@pytest.mark.parametrize(
    ("steps", "wanted", "message"),
    [
        ([_step("a", "b"), _step("b", "a")], ["a"], "step a needs b"),
        ([_step("a")], ["x"], "no such step: x; there are a"),
    ],
)
def test_closure_refuses(steps: list[Step], wanted: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        closure(steps, wanted)


def test_a_digest_covers_inputs_files_and_needs(tmp_path: Path) -> None:
    file = tmp_path / "go.mod"
    file.write_text("one")
    steps = [_step("a", files=(file,)), _step("b", "a"), _step("c", inputs=("flag",))]
    first = digests(steps)
    assert digests(steps) == first
    file.write_text("two")
    second = digests([*steps[:2], _step("c", inputs=("other",))])
    assert all(first[name] != second[name] for name in "abc")


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path: Path) -> None:
    made: list[str] = []

    def fail(work: Work) -> None:
        (work.out / "half").touch()
        work.run(["sh", "-c", "echo the reason; exit 3"])

    steps = [_step("a", made=made), _step("b", made=made, aside=True), _step("c", "a", "b", make=fail)]
    with pytest.raises(SandboxError, match=r"(?s)c: making failed: sh exited 3.*the reason.*logs/c\.log"):
        Build(tmp_path, steps).run()
    assert sorted(made) == ["a", "b"]

    steps[2] = _step("c", "a", "b", made=made)
    results = Build(tmp_path, steps).run()
    assert made[2:] == ["c"]
    assert [path.name for path in results["c"].iterdir()] == ["made"], "the failed attempt's files are gone"
    assert Build(tmp_path, steps).pending == []


def test_a_new_result_takes_the_place_of_the_old_one_only(tmp_path: Path) -> None:
    Build(tmp_path, [_step("node"), _step("node-rootfs")]).run()
    results = Build(tmp_path, [_step("node", inputs=("new",)), _step("node-rootfs")]).run()
    assert sorted(tmp_path.glob("node*")) == sorted(results.values())


def test_a_failure_ends_the_other_lane(tmp_path: Path) -> None:
    slow = _step("slow", aside=True, make=lambda work: work.run(["sleep", "60"]))
    broken = _step("broken", make=lambda work: work.run(["sh", "-c", "sleep 0.5; exit 1"]))
    with pytest.raises(SandboxError, match="broken: making failed"):
        Build(tmp_path, [slow, broken]).run()


def test_the_lock_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "lock"):
            pass


def test_publishing_replaces_without_touching_the_old_file(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "bin" / "program"
    source.write_text("one")
    sandbox.publish(source, target)
    running = target.open()
    source.unlink()
    source.write_text("two")
    sandbox.publish(source, target)
    assert (running.read(), target.read_text()) == ("one", "two")
    running.close()


def test_the_real_steps_fit_together() -> None:
    steps = components.all_steps(Path("/nowhere"), engine.Docker(Path("/nowhere")))
    names = [step.name for step in closure(steps, ["minikube", "preload"])]
    assert names[-1] == "preload"
    assert {"kubeconform", "registry"}.isdisjoint(names)
    assert len(set(digests(steps).values())) == len(steps)


@pytest.mark.parametrize(("pid", "found"), [("", None), ("nonsense", None), ("1", None)])
def test_a_stale_pid_file_is_not_an_engine(tmp_path: Path, pid: str, found: int | None) -> None:
    (tmp_path / "docker.pid").write_text(pid)
    assert engine.Docker(tmp_path).ours() is found


@pytest.mark.parametrize(("seconds", "text"), [(7.6, "8 s"), (130, "2 min 10 s"), (59.7, "1 min 0 s")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
