# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A step of a backup or restore, in a pod of the tracking server's image, on its volume and with its environment.

The roles mount this file and those that it imports below a directory of PYTHONPATH, under the collection's name. The
repository is a bucket where the environment names one, else the controller's directory at the other end of standard
input and output. The result goes to the controller, or into the termination message of the pod.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils import _backup_restore as restore
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_artifacts import Artifacts, Files
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_database import sqlite_path
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_make import make
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_pipe import Ends, Remote
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_s3 import artifacts_at, bucket_of
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_store import Store
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

BEAT_SECONDS = 10
SESSION_SECONDS = 120
SESSION = Path(tempfile.gettempdir(), "session")
TERMINATION = Path("/dev/termination-log")


def tell(line: str) -> None:
    """Show a line to people."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def beat() -> None:
    """Send an empty line now and then, by which the controller knows that the pod is still there."""

    def loop() -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            tell("")

    threading.Thread(target=loop, daemon=True).start()


def wait(session: Path, seconds: float) -> None:
    """Return when the session that holds the lock on the file is over, however it ends; or if none ever comes."""
    deadline = time.monotonic() + seconds
    while not session.exists():
        if time.monotonic() > deadline:
            raise MlopsError(f"The controller did not begin within {seconds:.0f} s.")
        time.sleep(0.2)
    with session.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)


def begin(session: Path) -> int:
    """Take the lock that `wait` waits for; it is released when this process ends."""
    unlocked = session.with_suffix(".new")
    descriptor = os.open(unlocked, os.O_CREAT | os.O_WRONLY, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unlocked.rename(session)
    return descriptor


def places(environment: Mapping[str, str]) -> tuple[Path, restore.Volume, Artifacts]:
    """The server's database, the volume with what is exchanged on it, and the artifacts."""
    file = sqlite_path(environment.get("MLFLOW_BACKEND_STORE_URI", ""))
    destination = environment["MLFLOW_ARTIFACTS_DESTINATION"]
    if destination.startswith("s3://"):
        return file, restore.Volume.of(file, None), artifacts_at(destination, environment)
    volume = restore.Volume.of(file, Path(destination))
    return file, volume, Files(Path(destination), volume.new("artifacts"))


def step(options: argparse.Namespace, environment: Mapping[str, str], store: Callable[[], Store]) -> dict[str, Any]:
    """Do what is asked."""
    file, volume, artifacts = places(environment)
    match options.step:
        case "make":
            wanted = {"instance": options.instance, "keep": options.keep, "check": restore.unrestored(volume)}
            with tempfile.TemporaryDirectory() as folder:
                return make(store(), artifacts, file, Path(folder) / "database", tell=tell, **wanted)
        case "stage":
            return restore.stage(store(), options.backup, volume, artifacts, tell)
        case "swap":
            return restore.swap(volume, artifacts, options.backup)
        case "undo":
            return restore.undo(volume, artifacts)
        case _:
            return restore.finish(volume, artifacts, options.backup)


def in_session(options: argparse.Namespace) -> None:
    """A step on the controller's repository; it hears of the result, or of the error."""
    held = begin(SESSION)
    beat()
    # Whatever prints must not get into the conversation.
    ends = Ends(os.fdopen(0, "rb", 1 << 18), os.fdopen(os.dup(1), "wb", 1 << 18))
    os.dup2(2, 1)
    remote = Remote(ends, options.place)
    try:
        remote.end({"result": step(options, os.environ, lambda: remote)})
    except MlopsError as error:
        remote.end({"error": error.message})
    ends.flush()
    os.close(held)


def main(arguments: Sequence[str]) -> int:
    """Run a step; the exit code is 1 where it failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=["wait", "make", "stage", "swap", "undo", "finish"])
    parser.add_argument("--place", help="the controller's directory, where it is the repository")
    parser.add_argument("--instance")
    parser.add_argument("--keep", type=int)
    parser.add_argument("--backup")
    options = parser.parse_args(arguments)
    os.umask(0o027)
    try:
        if options.step == "wait":
            wait(SESSION, SESSION_SECONDS)
        elif options.place:
            in_session(options)
        else:
            TERMINATION.write_text(json.dumps(step(options, os.environ, lambda: bucket_of(os.environ))))
    except MlopsError as error:
        tell(error.message)
        return 1
    except EOFError:
        tell("The controller is gone.")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
