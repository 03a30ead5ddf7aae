#!/usr/bin/env python3
"""A real Minikube where nothing can be downloaded: its parts, built instead.

    sandbox.py build        everything that `minikube start` would download, put where it looks for its downloads
    sandbox.py part NAME    one part more, for a test that needs it; its path is the last line of the output
    sandbox.py down         stops the sandbox's profiles, and the container engine if it was started here

Everything is kept in $MLOPS_MLFLOW_CACHE (~/.cache/mlops-mlflow). The build is for Debian 12 or newer on x86_64, as
root. From `minikube start` on, the collection's role minikube_cluster does the work.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from components import KUBERNETES, PRELOAD, all_steps, import_node_image
from engine import Docker
from steps import Build, SandboxError, closure, duration, locked, say

DEBIAN_PACKAGES = ("openssh-client", "iptables", "iproute2")
"""What Minikube's docker driver and the tests use on the machine itself."""


class Sandbox:
    """The places of the sandbox, and the three commands."""

    def __init__(self, cache: Path) -> None:
        """``cache``: the directory that holds everything."""
        self.cache = cache
        self.home = cache / "minikube"
        self.docker = Docker(cache / "engine")
        self.steps = all_steps(cache, self.docker)

    def build(self) -> None:
        """Builds what the cluster takes, starts an engine, and puts everything where Minikube looks for it."""
        start = time.monotonic()
        with locked(self.cache / "sandbox" / "lock"):
            results = self._make(["minikube", "preload"], (*DEBIAN_PACKAGES, *self.docker.packages()))
            self.docker.start()
            import_node_image(self.docker, results["node-rootfs"])
            cache = self.home / ".minikube" / "cache"
            for program in ("kubeadm", "kubelet", "kubectl"):
                publish(results["kubernetes"] / program, cache / "linux" / "amd64" / KUBERNETES / program)
            publish(results["preload"] / PRELOAD, cache / "preloaded-tarball" / PRELOAD)
            publish(results["minikube"] / "minikube", self.cache / "bin" / "minikube")
            publish(results["kubernetes"] / "kubectl", self.cache / "bin" / "kubectl")
        say(f"the sandbox's parts are ready ({duration(time.monotonic() - start)})")

    def part(self, name: str) -> Path:
        """Builds one part and returns its program, or its directory where it has several files."""
        with locked(self.cache / "sandbox" / "lock"):
            folder = self._make([name])[name]
        files = list(folder.iterdir())
        return files[0] if len(files) == 1 else folder

    def down(self) -> None:
        """Stops the sandbox's profiles, then the engine if it is ours."""
        if self.docker.answers():
            minikube = self.cache / "bin" / "minikube"
            environment = {
                **os.environ,
                "MINIKUBE_HOME": str(self.home),
                "KUBECONFIG": str(self.cache / "kubeconfig"),
                "MINIKUBE_IN_STYLE": "false",
                "PATH": f"{self.cache / 'bin'}:/usr/bin:{os.environ.get('PATH', '')}",
            }
            for profile in sorted((self.home / ".minikube" / "profiles").glob("*/config.json")):
                name = profile.parent.name
                say(f"stopping {name}")
                done = subprocess.run(
                    [minikube, "stop", "-p", name], env=environment, check=False, capture_output=True, text=True
                )
                if done.returncode:
                    say(f"minikube stop -p {name} exited {done.returncode}: {(done.stderr or done.stdout).strip()}")
        with locked(self.cache / "sandbox" / "lock"):
            say("the container engine is stopped" if self.docker.stop() else "no container engine of the sandbox runs")

    def _make(self, wanted: Iterable[str], packages: Iterable[str] = ()) -> dict[str, Path]:
        build = Build(self.cache / "sandbox", closure(self.steps, wanted))
        install([*packages, *(package for step in build.pending for package in step.debian)])
        return build.run()


def publish(source: Path, target: Path) -> None:
    """Puts a result where its user looks for it, at once or not at all: a running program keeps its old file."""
    if target.exists() and target.samefile(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.fresh")
    fresh.unlink(missing_ok=True)
    fresh.hardlink_to(source)
    fresh.replace(target)


def missing(packages: Iterable[str]) -> list[str]:
    """Those Debian packages that are not installed."""
    wanted = sorted(set(packages))
    if not wanted:
        return []
    done = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package} ${Status}\n", *wanted], check=False, capture_output=True, text=True
    )
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" ok installed")}
    return [package for package in wanted if package not in installed]


def install(packages: Iterable[str]) -> None:
    """Installs the Debian packages that are not there. Raises SandboxError where that is not possible."""
    if not shutil.which("dpkg-query"):
        raise SandboxError("this is not Debian: install Minikube and a container engine, and use inventory/minikube")
    needed = missing(packages)
    if not needed:
        return
    if os.geteuid():
        raise SandboxError(f"only root can install {' '.join(needed)}: run this as root, or install them first")
    say(f"installing Debian packages: {' '.join(needed)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["update"], ["install", "--yes", "--no-install-recommends", *needed]):
        done = subprocess.run(["apt-get", "-qq", *argv], env=environment, check=False, capture_output=True, text=True)
        # `update` warns and fails where one of several sources is out of reach; what matters is what `install` finds
        if done.returncode and argv[0] == "install":
            raise SandboxError(f"apt-get {' '.join(argv)} failed:\n{(done.stderr or done.stdout).strip()}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the parts of a cluster")
    commands.add_parser("part", help="build one part").add_argument("name")
    commands.add_parser("down", help="stop the sandbox")
    arguments = parser.parse_args()
    cache = Path(os.environ.get("MLOPS_MLFLOW_CACHE") or Path.home() / ".cache" / "mlops-mlflow").absolute()
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print("sandbox: only Linux on x86_64 is supported", file=sys.stderr)
        return 1
    sandbox = Sandbox(cache)
    try:
        if arguments.command == "build":
            sandbox.build()
        elif arguments.command == "part":
            print(sandbox.part(arguments.name))
        else:
            sandbox.down()
    except (SandboxError, ValueError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
