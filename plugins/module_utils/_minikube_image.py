# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in the nodes of a Minikube profile: built there or loaded, and verified by id.

`minikube image build`, `load` and `rm` end with exit code 0 when they fail, and do nothing on a stopped node
(pkg/minikube/machine/build_images.go, cache_images.go, v1.38.1). So what is in the node before and after decides.
"""

from __future__ import annotations

import json
import re
import shlex
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import (
    Minikube,
    Node,
    Profile,
    check_profile_name,
    explain_failure,
    load_profile,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_nodes import UnreachableError, endpoint
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_run import EndedError, Result, run

# github.com/distribution/reference v0.6, regexp.go: domain, path components, tag. A digest cannot be built.
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*):(?P<tag>[\w][\w.-]{{0,127}})", re.ASCII
)
_NAME_LENGTH = 255

_LINES_SHOWN = 30
_QUIET_SECONDS = 5.0
_STEP = re.compile(r"^(?:#\d+ (?P<buildkit>\[[^\]]*\d+/\d+\] .+)|(?P<classic>Step \d+/\d+ : .+))$")
_OUTPUT = re.compile(r"^#\d+ \d+\.\d+ (?P<text>.+)$")
_LEFT_BEHIND = re.compile(r"build\.\d+\.tar")


def full_name(name: str) -> str:
    """`mlflow:1` as `docker.io/library/mlflow:1`, the form that `image ls` has. Raises MlopsError for a bad name."""
    match = _REFERENCE.fullmatch(name)
    if match is None or len(name) > _NAME_LENGTH + 129:
        raise MlopsError(
            f"'{name}' is not an image name with a tag: give [registry/]name:tag; the name in lower case, the tag of"
            " letters, digits, '_', '.' and '-', at most 128 of them."
        )
    domain, path, tag = match["domain"], match["path"], match["tag"]
    if domain is not None and not ("." in domain or ":" in domain or domain == "localhost"):
        domain, path = None, f"{domain}/{path}"
    if path != path.lower():
        raise MlopsError(f"'{name}' is not an image name: it has to be in lower case.")
    if domain is None:
        return f"docker.io/{path if '/' in path else 'library/' + path}:{tag}"
    return f"{domain}/{path}:{tag}"


@dataclass(frozen=True)
class Image:
    """An image in the node; `size` in bytes."""

    name: str
    id: str
    size: int

    def record(self) -> dict[str, Any]:
        return {"name": self.name, "id": self.id, "size": self.size}


def parse_images(stdout: str) -> dict[str, Image] | None:
    """Images by full name from `image ls --format json`; None where that is not what was printed.

    An empty list is None too: a node that runs has the images of Kubernetes, one that does not run is left out.
    """
    try:
        records = json.loads(stdout)
    except ValueError:
        return None
    if not isinstance(records, list) or not records:
        return None
    images = {}
    for record in records:
        for tag in record.get("repoTags") or []:
            identity = str(record.get("id", "")).removeprefix("sha256:")
            images[tag] = Image(tag, f"sha256:{identity}", int(record.get("size") or 0))
    return images


def archive_ids(path: Path, name: str) -> set[str]:
    """The ids that a node may give the image `name` of an archive of `docker save`, or in OCI layout.

    That is the digest of the image's configuration, or of its manifest where the node keeps images in containerd.
    Raises MlopsError for a file that is no such archive, or has no image of that name.
    """
    try:
        with tarfile.open(path) as archive:
            manifest = _member(archive, "manifest.json")
            index = _member(archive, "index.json")
            ids, names = set(), set()
            for image in manifest or []:
                found = {full_name(tag) for tag in image.get("RepoTags") or []}
                names |= found
                if full_name(name) in found:
                    ids.add("sha256:" + PurePosixPath(image["Config"]).name.removesuffix(".json"))
            for image in (index or {}).get("manifests") or []:
                annotations = image.get("annotations") or {}
                tag = annotations.get("io.containerd.image.name") or ""
                if tag:
                    names.add(tag)
                if tag == full_name(name):
                    ids.add(image["digest"])
                    document = _member(archive, "blobs/" + image["digest"].replace(":", "/", 1)) or {}
                    if "config" in document:
                        ids.add(document["config"]["digest"])
    except FileNotFoundError:
        raise MlopsError(f"There is no image archive '{path}'.") from None
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        raise MlopsError(f"'{path}' is not an image archive as `docker save` makes them: {error}.") from error
    if not ids:
        listed = ", ".join(sorted(names)) or "none with a name"
        raise MlopsError(f"Archive '{path}' has no image '{name}'. It has: {listed}.")
    return ids


def _member(archive: tarfile.TarFile, name: str) -> Any:
    try:
        stream = archive.extractfile(name)
    except KeyError:
        return None
    return json.load(stream) if stream is not None else None


def write_context(folder: Path, files: Mapping[str, str]) -> None:
    """Write a build context. Raises MlopsError for a name that would leave `folder`.

    The files are readable by all, as the image's user has to read them; `folder` itself must be private.
    """
    for name, content in files.items():
        relative = PurePosixPath(name)
        if not name or relative.is_absolute() or ".." in relative.parts or relative == PurePosixPath("."):
            raise MlopsError(f"'{name}' cannot be a file of a build: give a path below the build's folder.")
        path = folder / relative
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        path.chmod(0o644)


class BuildProgress:
    """Lines for people from a build's output: each step once, and a sign of life from long ones."""

    def __init__(self, show: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._show = show
        self._clock = clock
        self._seen: set[str] = set()
        self._shown = clock()

    def __call__(self, line: str) -> None:
        """Take one line of output."""
        step = _STEP.match(line.strip())
        if step is not None:
            text = step["buildkit"] or step["classic"]
            if text not in self._seen:
                self._seen.add(text)
                self._say(_shorten(text))
            return
        output = _OUTPUT.match(line.strip())
        if output is not None and self._clock() - self._shown >= _QUIET_SECONDS:
            self._say("  " + _shorten(output["text"].strip()))

    def _say(self, text: str) -> None:
        self._shown = self._clock()
        self._show(text)


def _shorten(text: str, width: int = 100) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


@dataclass(frozen=True)
class Cause:
    """What made a build fail, as far as its output tells: for the message, and as a word for playbooks."""

    kind: str
    explanation: str


_BASE_IMAGE = re.compile(
    r"(?:resolve source metadata for|load metadata for|pull access denied for|manifest for|authorize:.*?)"
    r"\s*([\w./:@-]+\w)"
)
_BASE_IMAGE_FAILED = re.compile(
    r"failed to resolve source metadata|pull access denied|manifest unknown|manifest for .* not found"
    r"|Error response from daemon: (?:Get|Head) |failed to do request: Head",
    re.IGNORECASE,
)
_NO_SPACE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_CERTIFICATE = re.compile(
    r"CERTIFICATE_VERIFY_FAILED|certificate signed by unknown authority|certificate verify failed"
)
_INDEX_FAILED = re.compile(
    r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|Max retries exceeded|Temporary failure in name resolution"
    r"|Failed to establish a new connection|Connection refused|Could not resolve|ProxyError|Could not fetch URL"
)
_HOST = re.compile(r"host='([^']+)', port=(\d+)|Could not resolve '([^']+)'|Could not fetch URL (\S+?):")
_NO_DISTRIBUTION = re.compile(r"No matching distribution found for (\S+)")
_VERSIONS = re.compile(r"\(from versions: (.*?)\)")


def explain_build(lines: Sequence[str]) -> Cause | None:
    """Why a build failed, where its output says so: BuildKit's and the classic builder's, pip's, apt's."""
    text = "\n".join(lines)
    if _NO_SPACE.search(text):
        return Cause(
            "no_space",
            "The node has no space left. Remove unused images there (`minikube ssh -- docker image prune`) or free"
            " space on the machine that it runs on.",
        )
    if _BASE_IMAGE_FAILED.search(text):
        named = _BASE_IMAGE.search(text)
        image = named[1] if named else "named in the Dockerfile"
        return Cause(
            "base_image",
            f"The base image {image} is neither in the node nor can the node fetch it from its registry. Check the"
            " name, and that the node reaches the registry (proxy, mirror, login); or load the image into the node.",
        )
    if _CERTIFICATE.search(text):
        return Cause(
            "certificate",
            "A server's certificate is not trusted inside the build, as behind a proxy that inspects TLS: give the"
            " build the CA bundle that signed it.",
        )
    missing = _NO_DISTRIBUTION.search(text)
    if _INDEX_FAILED.search(text):
        host = next((group for found in [_HOST.search(text)] if found for group in found.groups() if group), "")
        return Cause(
            "package_index",
            f"The build does not reach the package index{f' {host}' if host else ''}. Check its address, and that the"
            " node reaches it (proxy, mirror, name resolution).",
        )
    if missing is not None:
        versions = _VERSIONS.search(text)
        known = versions[1] if versions and versions[1] != "none" else ""
        return Cause(
            "package",
            f"The package index has no {missing[1]} that fits."
            + (
                f" It has: {_shorten(known, 200)}."
                if known
                else " It has no version of it at all: is it the right one?"
            ),
        )
    return None


def failed_step(lines: Sequence[str]) -> str:
    """The step that failed: BuildKit repeats it after ` > `; the classic builder's is the last one begun."""
    repeated = [line.strip()[2:].rstrip(":") for line in lines if re.match(r"^\s*> \[.+\].*:?$", line)]
    if repeated:
        return repeated[-1]
    begun = [match["classic"] for line in lines if (match := _STEP.match(line.strip())) and match["classic"]]
    return begun[-1] if begun else ""


def build_failure(name: str, result: Result) -> MlopsError:
    """The error of a build that left no image."""
    lines = [line for line in result.tail if line.strip()]
    cause, step = explain_build(lines), failed_step(lines)
    parts = [f"Building image '{name}' in the node failed"]
    parts.append(f" at step {step}." if step else ".")
    if cause is not None:
        parts.append(f" {cause.explanation}")
    shown = lines[-_LINES_SHOWN:]
    parts.append("\nLast lines:\n" + "\n".join(shown) if shown else " Minikube printed nothing; see `minikube logs`.")
    return MlopsError(
        "".join(parts), reason=cause.kind if cause else "build", step=step, output_tail=shown, rc=result.rc
    )


@dataclass
class Source:
    """Where the image comes from: a folder to build, or an archive to load."""

    context: Path | None = None
    dockerfile: str = "Dockerfile"
    build_args: Mapping[str, str] = field(default_factory=dict)
    archive: Path | None = None

    def check(self) -> None:
        """Refuse what cannot be built, before anything is called."""
        if self.context is not None:
            if not self.context.is_dir():
                raise MlopsError(f"There is no folder '{self.context}' to build an image from.")
            if not (self.context / self.dockerfile).is_file():
                raise MlopsError(f"There is no file '{self.dockerfile}' in the build's folder.")
        for key in self.build_args:
            if not re.fullmatch(r"\w+", key, re.ASCII):
                raise MlopsError(f"'{key}' is not the name of a build argument.")


@dataclass
class Outcome:
    """What ensure() did or, in check mode, would do."""

    image: Image | None
    difference: Difference


class NodeImages:
    """The images of a profile's nodes."""

    def __init__(self, minikube: Minikube, show: Callable[[str], None]) -> None:
        check_profile_name(minikube.profile, new=False)
        self._minikube = minikube
        self._show = show
        self._profile = load_profile(minikube.path, minikube.profile)

    @property
    def _several(self) -> bool:
        return self._profile is not None and len(self._profile.nodes) > 1

    def listed(self) -> dict[str, Image] | None:
        """Images that every node has, by full name; None where the cluster is missing or does not run."""
        if self._profile is None or self._minikube.locate() is None:
            return None
        images = parse_images(self._minikube.run("image", "ls", "--format", "json", timeout=120).stdout)
        if images is not None and self._several:
            # Minikube merges the lists of all nodes; a pod may be scheduled on any of them.
            with ThreadPoolExecutor() as pool:
                for names in pool.map(self._names_on, [node.name for node in self._profile.nodes]):
                    images = {name: image for name, image in images.items() if name in names}
        return images

    def _names_on(self, node: str) -> set[str]:
        result = self._minikube.run("ssh", "-n", node, "--", "sudo crictl images -o json", timeout=120)
        try:
            records = json.loads(result.stdout)["images"]
        except (ValueError, KeyError):
            raise explain_failure(f"Listing the images of node '{node}'", result) from None
        return {_with_registry(tag) for record in records for tag in record.get("repoTags") or []}

    def ensure_present(self, name: str, source: Source, *, force: bool, check_mode: bool) -> Outcome:
        """Have the image in the nodes: built or loaded if it is not there, is another, or `force`."""
        wanted = full_name(name)
        source.check()
        expected = archive_ids(source.archive, name) if source.archive is not None else None
        images = self.listed()
        before = (images or {}).get(wanted)
        if before is not None and not force and (expected is None or before.id in expected):
            return Outcome(before, Difference())
        if check_mode:
            planned = min(expected) if expected else "(known after the build)"
            return Outcome(before, _difference(before, name, planned))
        if images is None or self._profile is None:
            raise self._not_running(f"Image '{name}' cannot be put into the node")
        if source.archive is not None and expected is not None:
            after = self._load(name, source.archive, expected)
        elif source.context is not None:
            after = self._build(self._profile, name, source, replace=before is not None)
        else:
            raise MlopsError(
                f"Image '{name}' is not in the node, and nothing says where it comes from: give `files`, `context` or"
                " `archive`."
            )
        difference = Difference() if before == after else _difference(before, name, after.id)
        return Outcome(after, difference)

    def ensure_absent(self, name: str, *, check_mode: bool) -> Outcome:
        """Have no image of that name in any node."""
        wanted = full_name(name)
        images = self.listed()
        if images is None:
            if self._profile is None:
                return Outcome(None, Difference())  # No cluster, no image.
            if check_mode:
                return Outcome(None, Difference())
            raise self._not_running(f"Image '{name}' cannot be removed from the node")
        before = images.get(wanted)
        if before is None:
            return Outcome(None, Difference())
        difference = Difference()
        difference.compare("image", before.record(), None)
        if not check_mode:
            result = self._minikube.run("image", "rm", name, on_line=self._show)
            if wanted in (self.listed() or {}):
                raise MlopsError(
                    f"Image '{name}' is still in the node after `minikube image rm`: a container uses it. Remove the"
                    " workload first.\n" + "\n".join(result.tail[-10:]),
                    rc=result.rc,
                    output_tail=list(result.tail[-_LINES_SHOWN:]),
                )
        return Outcome(None, difference)

    def _not_running(self, attempted: str) -> MlopsError:
        name = self._minikube.profile
        self._minikube.require()
        if self._profile is None:
            return MlopsError(f"{attempted}: there is no Minikube profile '{name}' in {self._minikube.path}.")
        return MlopsError(
            f"{attempted}: Minikube profile '{name}' does not run, or does not answer. Start it first"
            " (mlops.mlflow.minikube_cluster, state: started)."
        )

    def _build(self, profile: Profile, name: str, source: Source, *, replace: bool) -> Image:
        """Build under another name where the name is taken, so that only a new image counts as success."""
        target = f"{name.rsplit(':', 1)[0]}:mlops-build-{uuid.uuid4().hex[:12]}" if replace else name
        if profile.kubernetes.get("ContainerRuntime") == "docker":
            result = self._build_in_docker(profile, target, source)
        else:
            result = self._build_by_minikube(target, source)
        image = (self.listed() or {}).get(full_name(target))
        if image is None or result.rc != 0:
            raise build_failure(name, result)
        if not replace:
            return image
        self._minikube.run("image", "tag", target, name)
        self._minikube.run("image", "rm", target)
        return self._verified(name, {image.id}, "`minikube image tag`")

    def _build_in_docker(self, profile: Profile, target: str, source: Source) -> Result:
        """Build with the docker of each node, over SSH.

        What Minikube does, except that its own `image build` reads one stream after the other (`teePrefix` of
        pkg/minikube/command/command_runner.go holds a lock): BuildKit's progress would come in one piece at the end,
        the exit code not at all, and the build's files would stay in the node after a failure.
        """
        arguments = [f"--build-arg={key}={value}" for key, value in source.build_args.items()]
        command = ["env", "BUILDKIT_PROGRESS=plain", "docker", "build", f"--tag={target}", *arguments]
        script = (
            'folder=$(mktemp -d) && trap \'rm -rf "$folder"\' EXIT && tar -xf - -C "$folder"'
            f' && {shlex.join(command)} --file="$folder"/{shlex.quote(source.dockerfile)} "$folder"'
        )
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(str(source.context), arcname=".", filter=_anonymous)
            for node in profile.nodes:
                packed.seek(0)
                result = self._run_on(profile, node, script, packed)
                if result.rc != 0:
                    break
        return result

    def _run_on(self, profile: Profile, node: Node, script: str, stdin: IO[bytes]) -> Result:
        try:
            found = endpoint(self._minikube.path, profile, node)
        except UnreachableError as error:
            raise MlopsError(
                f"Node '{node.name}' cannot be reached by SSH to build an image there: {error}."
            ) from error
        argv = ["sh", "-c", script] if found.local else [*found.ssh_command(), script]
        try:
            return run(
                argv,
                timeout=self._minikube.timeout,
                on_line=BuildProgress(self._show),
                stdin=stdin,
                wanted=self._minikube.wanted,
            )
        except FileNotFoundError:
            raise MlopsError("The program 'ssh' was not found. Install an OpenSSH client.") from None
        except EndedError as ended:
            raise MlopsError(
                f"The build in node '{node.name}' {ended}. Last lines:\n" + "\n".join(ended.tail[-15:]),
                output_tail=list(ended.tail[-_LINES_SHOWN:]),
            ) from ended

    def _build_by_minikube(self, target: str, source: Source) -> Result:
        """Build with the other runtimes' builders, which Minikube knows how to set up."""
        with tempfile.TemporaryDirectory(prefix="mlops-image-") as folder:
            # Minikube packs the context into $TMPDIR and forgets to remove it (createTar of cmd/image.go).
            result = self._minikube.with_environment({"TMPDIR": folder}).run(
                "image",
                "build",
                f"--tag={target}",
                f"--file={source.dockerfile}",
                *(["--all"] if self._several else []),
                *self._build_options(source.build_args),
                str(source.context),
                on_line=BuildProgress(self._show),
            )
            self._clean_up([path.name for path in Path(folder).glob("build.*.tar")])
        return result

    def _build_options(self, build_args: Mapping[str, str]) -> list[str]:
        """Build arguments the way the node's builder takes them (pkg/minikube/cruntime/*.go, `BuildImage`)."""
        buildctl = self._profile is not None and self._profile.kubernetes.get("ContainerRuntime") == "containerd"
        form = "--build-opt=opt=build-arg:{}={}" if buildctl else "--build-opt=build-arg={}={}"
        return [form.format(key, value) for key, value in build_args.items()]

    def _clean_up(self, packed: Sequence[str]) -> None:
        """Remove what a build leaves in the node when it fails: its files, which may be secret."""
        for name in filter(_LEFT_BEHIND.fullmatch, packed):
            path = f"/var/lib/minikube/build/{name}"
            self._minikube.run("ssh", "--", f"sudo rm -rf {path} {path.removesuffix('.tar')}", timeout=60)

    def _load(self, name: str, archive: Path, expected: set[str]) -> Image:
        result = self._minikube.run("image", "load", str(archive.absolute()), on_line=self._show)
        try:
            return self._verified(name, expected, "`minikube image load`")
        except MlopsError as error:
            tail = [line for line in result.tail if line.strip()][-_LINES_SHOWN:]
            raise MlopsError("\n".join([error.message, *tail]), **error.details, rc=result.rc) from error

    def _verified(self, name: str, expected: set[str], command: str) -> Image:
        image = (self.listed() or {}).get(full_name(name))
        if image is None or image.id not in expected:
            found = "there is no such image" if image is None else f"its image is still {image.id}"
            raise MlopsError(
                f"{command} reported no error, but image '{name}' did not get into the node: {found}, instead of"
                f" {' or '.join(sorted(expected))}. The archive may be damaged, the node full, or a container uses the"
                " old image: see `minikube logs`.",
                reason="not_loaded",
                image=image.record() if image is not None else None,
            )
        return image


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A file without its owner on this machine, who is nobody in the node."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _with_registry(tag: str) -> str:
    try:
        return full_name(tag)
    except MlopsError:
        return tag


def _difference(before: Image | None, name: str, identity: str) -> Difference:
    """Names and ids only: what goes into a build may be secret."""
    difference = Difference()
    difference.compare(
        "image", {"name": name, "id": before.id} if before is not None else None, {"name": name, "id": identity}
    )
    return difference


def check_files(files: Any) -> Mapping[str, str]:
    """The value of `files` as name and content; raises MlopsError for another shape."""
    if not isinstance(files, Mapping) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in files.items()
    ):
        raise MlopsError("`files` has to be a dictionary of file names and their contents as text.")
    return files
