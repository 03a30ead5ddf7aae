"""The container engine that Minikube runs its nodes in: one that answers already, else Debian's, started from here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from steps import SandboxError, say, tail

HERE = Path(__file__).resolve().parent
CAP_SYS_RESOURCE = 24
"""The bit of this capability (linux/capability.h)."""
START_TIMEOUT = 60
STOP_TIMEOUT = 60


def needs_wrapper() -> bool:
    """Whether containers need ``node/runc-wrap``: this machine lacks CAP_SYS_RESOURCE, or has cgroup v1."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return (
        not int(status["CapBnd"], 16) >> CAP_SYS_RESOURCE & 1 or not Path("/sys/fs/cgroup/cgroup.controllers").exists()
    )


def command_line(pid: int) -> list[str]:
    """The arguments of a process; empty where there is none, or only a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


class Docker:
    """The engine behind the default socket, and the one of ours that is started there when nothing answers.

    ``/usr/bin/docker`` comes first: it is Debian's, where another ``docker`` on PATH may be another program.
    """

    def __init__(self, folder: Path) -> None:
        """``folder``: data, log and state of an engine of ours."""
        self.folder = folder
        self.pid_file = folder / "docker.pid"
        self.log = folder / "dockerd.log"

    @property
    def program(self) -> str:
        """The docker client."""
        return "/usr/bin/docker" if Path("/usr/bin/docker").exists() else shutil.which("docker") or "docker"

    def answers(self) -> bool:
        """Whether an engine is there. A client that is not Docker's says nothing of a server's version."""
        try:
            argv = [self.program, "version", "--format", "{{.Server.Version}}"]
            done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0 and done.stdout[:1].isdigit()

    def packages(self) -> tuple[str, ...]:
        """The Debian packages that an engine of ours takes; none where one answers."""
        if self.answers():
            return ()
        return ("docker.io", "iptables", "iproute2", *(("jq",) if needs_wrapper() else ()))

    def run(self, *argv: str, stdin: IO[bytes] | None = None) -> str:
        """The output of a docker command. Raises SandboxError with what it said if it fails."""
        # the old builder: the new one is a plugin that may not be there
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        process = subprocess.run(
            [self.program, *argv],
            env=environment,
            check=False,
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
        )
        if process.returncode:
            raise SandboxError(f"docker {argv[0]} failed: {process.stderr.decode(errors='replace').strip()}")
        return process.stdout.decode().strip()

    def label(self, image: str, name: str) -> str:
        """The value of an image's label; empty where there is no such image or label."""
        try:
            return self.run("image", "inspect", "--format", f'{{{{index .Config.Labels "{name}"}}}}', image)
        except SandboxError:
            return ""

    def image_id(self, image: str) -> str:
        """The id of an image; empty where there is none."""
        return self.run("images", "--quiet", "--no-trunc", image)

    def discard(self, image: str) -> None:
        """Removes an image unless a container still uses it."""
        subprocess.run([self.program, "rmi", image], check=False, capture_output=True)

    def forget(self, name: str) -> None:
        """Removes a container and the volume of the same name, if they are there."""
        for argv in (["rm", "--force", "--volumes", name], ["volume", "rm", "--force", name]):
            subprocess.run([self.program, *argv], check=False, capture_output=True)

    def ours(self) -> int | None:
        """The process id of an engine that was started here."""
        try:
            pid = int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None
        words = command_line(pid)
        return pid if words and Path(words[0]).name == "dockerd" and str(self.folder / "data") in words else None

    def start(self) -> None:
        """Makes sure that an engine answers, from whatever state an earlier one was left in."""
        if self.answers():
            return
        if pid := self.ours():
            # it may still be coming up
            if self._wait(lambda: self.answers() or self.ours() is None, START_TIMEOUT) and self.answers():
                return
            say(f"the container engine (process {pid}) does not answer: starting it anew")
            self._end([pid])
        self._clear()
        self.folder.mkdir(parents=True, exist_ok=True)
        say(f"starting a container engine in {self.folder}")
        argv = ["dockerd", "--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec")]
        argv += ["--pidfile", str(self.pid_file)]
        argv += ["--bip", "172.28.0.1/24", "--default-address-pool", "base=172.29.0.0/16,size=24"]
        if needs_wrapper():
            wrapper = self.folder / "runc-wrap"
            shutil.copy(HERE / "node" / "runc-wrap", wrapper)
            argv += ["--add-runtime", f"wrap={wrapper}", "--default-runtime", "wrap"]
        search = f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ.get('PATH', '')}"
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PATH": search},
                executable=shutil.which("dockerd", path=search),
            )
        if not self._wait(lambda: self.answers() or process.poll() is not None, START_TIMEOUT) or not self.answers():
            raise SandboxError(
                f"the container engine did not start within {START_TIMEOUT} s\n{tail(self.log)}\n  Its log: {self.log}"
            )

    def stop(self) -> bool:
        """Ends an engine that was started here, with what is left of an earlier one. Tells whether one ran."""
        pid = self.ours()
        if pid:
            self._end([pid])
        self._clear()
        return pid is not None

    def _clear(self) -> None:
        """Takes away what a killed engine leaves: its containerd, and process ids that may be another's by now."""
        folder = str(self.folder / "exec" / "containerd")
        left = [pid for pid in self._processes() if any(folder in word for word in command_line(pid))]
        self._end(left)
        for file in (self.pid_file, self.folder / "exec" / "containerd" / "containerd.pid"):
            file.unlink(missing_ok=True)

    @staticmethod
    def _processes() -> Iterable[int]:
        return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())

    def _end(self, pids: list[int]) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            alive = [pid for pid in pids if command_line(pid)]
            for pid in alive:
                os.kill(pid, number)
            if self._wait(lambda: not any(command_line(pid) for pid in pids), STOP_TIMEOUT if alive else 0):
                return

    @staticmethod
    def _wait(condition: Callable[[], bool], timeout: float) -> bool:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True
