# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a program of long duration: its lines as they come, its end in time, no process left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

_KILL_GRACE_SECONDS = 5.0
_KEPT_LINES = 400


@dataclass(frozen=True)
class Result:
    """What one call printed: whole standard output, and the last lines of both streams as they came."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    tail: tuple[str, ...]
    seconds: float


class EndedError(Exception):
    """The program was ended before its time; the text says why, and `tail` has its last lines."""

    def __init__(self, reason: str, tail: Sequence[str]) -> None:
        super().__init__(reason)
        self.tail = tuple(tail)


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float,
    on_line: Callable[[str], None] | None = None,
    stdin: IO[bytes] | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> Result:
    """Run a program to its end; never raises for an exit code.

    `on_line` sees each line of either stream as it comes. Raises EndedError when the program takes longer than
    `timeout` seconds, or when it is not `wanted` any more: then its whole process group is ended.
    """
    started = time.monotonic()
    stdout: list[str] = []
    tail: list[str] = []

    def read(stream: Iterable[str] | None, kept: list[str] | None) -> None:
        for line in stream or ():
            if kept is not None:
                kept.append(line)
            tail.append(line.rstrip("\r\n"))
            if len(tail) > 2 * _KEPT_LINES:
                del tail[:_KEPT_LINES]
            if on_line:
                on_line(line.rstrip("\r\n"))

    with subprocess.Popen(
        argv,
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        readers = [
            threading.Thread(target=read, args=(process.stdout, stdout), daemon=True),
            threading.Thread(target=read, args=(process.stderr, None), daemon=True),
        ]
        for reader in readers:
            reader.start()
        reason = _await(process, started + timeout, wanted)
        for reader in readers:
            reader.join(timeout=_KILL_GRACE_SECONDS)
    if reason:
        raise EndedError(reason.format(limit=int(timeout)), tail)
    return Result(tuple(argv), process.returncode, "".join(stdout), tuple(tail), time.monotonic() - started)


def _await(process: subprocess.Popen[str], deadline: float, wanted: Callable[[], bool]) -> str:
    """Wait for the end; a reason (with `{limit}`) if the process had to be ended, else an empty text."""
    # A thread of its own learns of the end at once; Popen.wait() with a timeout looks every 50 ms.
    waiter = threading.Thread(target=process.wait, daemon=True)
    waiter.start()
    while True:
        remaining = deadline - time.monotonic()
        waiter.join(max(0.0, min(1.0, remaining)))
        if not waiter.is_alive():
            return ""
        if remaining <= 0:
            reason = "did not end within {limit} seconds and was stopped; raise `timeout` if it needs longer"
        elif not wanted():
            reason = "was stopped because the playbook that waited for it is gone"
        else:
            continue
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            waiter.join(_KILL_GRACE_SECONDS)
            if not waiter.is_alive():
                break
        return reason
