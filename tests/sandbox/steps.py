"""Steps of a long build: keyed by a digest of their inputs, resumable, two at a time, with progress.

A step's result is the directory ``STORE/<name>-<digest>``. It is made under another name and renamed when complete, so
that one which exists is whole: an interrupted build goes on with the first step that is not there yet.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

HEARTBEAT = 30.0
"""Seconds between the progress lines of a step that is still at work."""
TAIL = 15
"""Lines of a step's log that an error shows."""


class SandboxError(Exception):
    """What was attempted, what came of it, and what to do next; the command line prints it without a traceback."""


@dataclass(frozen=True)
class Step:
    """One part of the build.

    ``make`` (and ``fetch``, the downloads before it) get a :class:`Work`. ``inputs`` and the contents of ``files``
    are what the result depends on besides the steps in ``needs``. Steps ``aside`` run in the lane of the downloads,
    beside the compiler. ``debian`` names the packages that making it takes.
    """

    name: str
    verb: str
    make: Callable[[Work], None]
    inputs: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    needs: tuple[str, ...] = ()
    fetch: Callable[[Work], None] | None = None
    aside: bool = False
    debian: tuple[str, ...] = ()


def closure(steps: Sequence[Step], wanted: Iterable[str]) -> list[Step]:
    """The wanted steps and all that they need, in the order of ``steps``.

    Raises ValueError where a step needs one that is not listed before it, which also rules out circles.
    """
    known: set[str] = set()
    for step in steps:
        if missing := [need for need in step.needs if need not in known]:
            raise ValueError(f"step {step.name} needs {', '.join(missing)}, not listed before it")
        known.add(step.name)
    chosen = set(wanted)
    if unknown := chosen - known:
        raise ValueError(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    for step in reversed(steps):
        if step.name in chosen:
            chosen.update(step.needs)
    return [step for step in steps if step.name in chosen]


def digests(steps: Sequence[Step]) -> dict[str, str]:
    """The key of each step's result, 16 hexadecimal digits: its inputs, its files' contents, its needs' digests."""
    result: dict[str, str] = {}
    for step in steps:
        record = {
            "inputs": step.inputs,
            "files": [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in step.files],
            "needs": [result[need] for need in step.needs],
        }
        result[step.name] = hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]
    return result


def duration(seconds: float) -> str:
    """Seconds for people: ``8 s``, ``2 min 10 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def say(text: str) -> None:
    """One line of progress. On standard error: standard output belongs to a command's result."""
    print(text, file=sys.stderr, flush=True)


def remove_tree(path: Path) -> None:
    """Removes a directory even where a killed debootstrap left file systems mounted in it."""
    if not path.exists():
        return
    inside = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in inside if m.startswith(f"{path}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True)
    shutil.rmtree(path)


def tail(log: Path) -> str:
    """The last lines of a log, for an error."""
    if not log.exists():
        return ""
    lines = [line for line in log.read_text(errors="replace").splitlines() if not line.startswith("go: downloading ")]
    return "\n".join(f"    {line}" for line in lines[-TAIL:])


@dataclass
class Processes:
    """The programs that a build is running, so that a failure or an interrupt in one lane ends the other's."""

    running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def start(self, argv: Sequence[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
        """Like Popen, in a process group of its own; raises SandboxError once the build has been stopped."""
        with self.lock:
            if self.stopped.is_set():
                raise SandboxError("stopped")
            process = subprocess.Popen(argv, start_new_session=True, **options)  # type: ignore[call-overload]
            self.running.add(process)
        try:
            yield process
        finally:
            with self.lock:
                self.running.discard(process)

    def stop(self) -> None:
        """Ends what is running and lets nothing start any more."""
        with self.lock:
            self.stopped.set()
            for process in self.running:
                if process.poll() is None:
                    os.killpg(process.pid, 15)


@dataclass(frozen=True)
class Work:
    """What a step's functions get: where to write, where its needs are, and how to run a program."""

    out: Path
    log: Path
    needs: Mapping[str, Path]
    processes: Processes

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> None:
        """Runs a program with its output in the step's log. Raises SandboxError if it fails."""
        words = [str(word) for word in argv]
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(words)}\n".encode())
            log.flush()
            with self.processes.start(
                words,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=log,
            ) as process:
                if code := process.wait():
                    raise SandboxError(f"{words[0]} exited {code}")


class Build:
    """Brings steps up to date in two lanes: the compiler's, and beside it the downloads and the steps ``aside``."""

    def __init__(self, store: Path, steps: Sequence[Step]) -> None:
        """``store``: the directory of the results. ``steps``: what is wanted, closed over its needs."""
        self.store = store
        self.steps = list(steps)
        keys = digests(steps)
        self.results = {step.name: store / f"{step.name}-{keys[step.name]}" for step in steps}
        self.pending = [step for step in steps if not self.results[step.name].exists()]
        self.fetched = {step.name: threading.Event() for step in self.pending}
        self.made = {step.name: threading.Event() for step in self.pending}
        for step in self.pending:
            if not step.fetch:
                self.fetched[step.name].set()
        self.processes = Processes()
        self.errors: list[SandboxError] = []

    def run(self) -> dict[str, Path]:
        """Makes what is missing and returns every step's directory. Raises SandboxError for the first failure."""
        if not self.pending:
            return self.results
        if done := len(self.steps) - len(self.pending):
            say(f"{done} of {len(self.steps)} parts are there already")
        main = threading.Thread(target=self._lane, args=(self._main,))
        side = threading.Thread(target=self._lane, args=(self._side,))
        try:
            for lane in (side, main):
                lane.start()
            for lane in (main, side):
                while lane.is_alive():
                    lane.join(1)
        except KeyboardInterrupt:
            self.processes.stop()
            say("interrupted: what is complete is kept, the next run goes on from there")
            raise
        finally:
            for lane in (main, side):
                lane.join()
        if self.errors:
            raise self.errors[0]
        return self.results

    def _lane(self, work: Callable[[], None]) -> None:
        try:
            work()
        except SandboxError as error:
            self.errors.append(error)
            self.processes.stop()
        except BaseException as error:
            self.errors.append(SandboxError(f"{type(error).__name__}: {error}"))
            self.processes.stop()
            raise

    def _side(self) -> None:
        for step in self.pending:
            if step.fetch:
                self._task(step, "fetching", step.fetch)
                self.fetched[step.name].set()
            # what is built from others' results comes after every download
            if step.aside and not step.needs:
                self._make(step)
        for step in self.pending:
            if step.aside and step.needs:
                self._make(step)

    def _main(self) -> None:
        for step in self.pending:
            if not step.aside:
                self._make(step)

    def _make(self, step: Step) -> None:
        for event in [self.fetched[step.name], *(self.made[need] for need in step.needs if need in self.made)]:
            while not event.wait(0.2):
                if self.processes.stopped.is_set():
                    raise SandboxError("stopped")
        self._task(step, step.verb, step.make)
        result = self.results[step.name]
        unfinished = self._unfinished(step)
        unfinished.rename(result)
        for other in self.store.glob(f"{step.name}-*"):
            # a step's name may begin with another's: only sixteen digits may follow
            if other != result and len(other.name) == len(result.name):
                remove_tree(other)
        self.made[step.name].set()

    def _unfinished(self, step: Step) -> Path:
        return self.store / "unfinished" / step.name

    def _task(self, step: Step, verb: str, function: Callable[[Work], None]) -> None:
        label = f"[{self.steps.index(step) + 1:2}/{len(self.steps)}] {step.name}: {verb}"
        out = self._unfinished(step)
        if function is step.make:
            remove_tree(out)
        out.mkdir(parents=True, exist_ok=True)
        log = self.store / "logs" / f"{step.name}.log"
        log.parent.mkdir(exist_ok=True)
        say(label)
        start = time.monotonic()
        done = threading.Event()

        def heartbeat() -> None:
            while not done.wait(HEARTBEAT):
                say(f"{label} ({duration(time.monotonic() - start)})")

        beat = threading.Thread(target=heartbeat, daemon=True)
        beat.start()
        try:
            function(Work(out, log, self.results, self.processes))
        except SandboxError as error:
            if self.processes.stopped.is_set():
                raise
            message = f"{step.name}: {verb} failed: {error}\n{tail(log)}\n  The whole log: {log}"
            raise SandboxError(f"{message}\n  Run it again to go on from here.") from error
        finally:
            done.set()
            beat.join()
        say(f"{label}: done in {duration(time.monotonic() - start)}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a file lock; says so while it waits for another process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            say(f"waiting for another run of the sandbox (process {file.read().strip() or 'unknown'})")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
