"""Images in the node: names, archives, what a build's output tells, and what is done when."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _minikube_image as image
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import Minikube
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_image import NodeImages, Source
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_run import Result

FIXTURES = Path(__file__).parents[2] / "fixtures/minikube"


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("mlflow:1", "docker.io/library/mlflow:1"),
        ("team/mlflow:1.0-a_b", "docker.io/team/mlflow:1.0-a_b"),
        ("localhost/mlflow:1", "localhost/mlflow:1"),
        ("registry.example.org:5000/a/b__c:v", "registry.example.org:5000/a/b__c:v"),
        ("docker.io/library/python:3.13-slim", "docker.io/library/python:3.13-slim"),
    ],
)
def test_names_are_as_minikube_lists_them(name: str, full: str) -> None:
    assert image.full_name(name) == full


@pytest.mark.parametrize(
    "name",
    [
        "mlflow",
        "mlflow:",
        "MLflow:1",
        "mlflow:a b",
        "mlflow:-1",
        "mlflow:" + "x" * 129,
        "mlflow@sha256:" + "0" * 64,
        "a//b:1",
        "--help:1",
        "mlflow:1\n",
        "",
    ],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(MlopsError, match="is not an image name"):
        image.full_name(name)


def test_images_of_a_node() -> None:
    images = image.parse_images((FIXTURES / "image-ls.json").read_text())
    assert images is not None
    python = images["docker.io/library/python:3.13-slim"]
    assert python.id.startswith("sha256:")
    assert python.size > 100_000_000


@pytest.mark.parametrize("answer", ["", "[]", "null", "E1124 noise", "{}"])
def test_a_node_that_does_not_answer_has_no_list(answer: str) -> None:
    assert image.parse_images(answer) is None


def archive(path: Path, **members: Any) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, document in members.items():
            content = json.dumps(document).encode()
            info = tarfile.TarInfo(name.replace("__", "/").replace("_json", ".json"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize("config", ["abc.json", "blobs/sha256/abc"])
def test_the_id_of_an_archive_of_docker_save(tmp_path: Path, suffix: str, config: str) -> None:
    path = archive(tmp_path / f"a.{suffix}", manifest_json=[{"Config": config, "RepoTags": ["app:1", "x.io/app:2"]}])
    assert image.archive_ids(path, "app:1") == image.archive_ids(path, "x.io/app:2") == {"sha256:abc"}


def test_the_ids_of_an_archive_in_oci_layout(tmp_path: Path) -> None:
    annotations = {"io.containerd.image.name": "docker.io/library/app:1"}
    path = archive(
        tmp_path / "a.tar",
        index_json={"manifests": [{"digest": "sha256:m", "annotations": annotations}]},
        blobs__sha256__m={"config": {"digest": "sha256:c"}},
    )
    assert image.archive_ids(path, "app:1") == {"sha256:m", "sha256:c"}


def test_archives_that_cannot_be_loaded(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", manifest_json=[{"Config": "abc.json", "RepoTags": ["app:1"]}])
    with pytest.raises(MlopsError, match=r"has no image 'app:2'\. It has: docker\.io/library/app:1"):
        image.archive_ids(path, "app:2")
    with pytest.raises(MlopsError, match="There is no image archive"):
        image.archive_ids(tmp_path / "none.tar", "app:1")
    (tmp_path / "text.tar").write_text("hello")
    with pytest.raises(MlopsError, match="is not an image archive"):
        image.archive_ids(tmp_path / "text.tar", "app:1")


def test_the_files_of_a_build(tmp_path: Path) -> None:
    image.write_context(tmp_path, {"Dockerfile": "FROM x\n", "sub/dir/app.py": "print()"})
    assert (tmp_path / "sub/dir/app.py").read_text() == "print()"
    assert stat.S_IMODE((tmp_path / "Dockerfile").stat().st_mode) == 0o644


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "", "."])
def test_files_stay_in_the_build_s_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(MlopsError, match="cannot be a file of a build"):
        image.write_context(tmp_path, {name: ""})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fixture", "kind", "said"),
    [
        ("build-base-image", "base_image", "docker.io/library/nosuch:9"),
        ("build-package-index", "package_index", "does not reach the package index"),
        ("build-no-space", "no_space", "no space left"),
    ],
)
def test_why_recorded_builds_failed(fixture: str, kind: str, said: str) -> None:
    cause = image.explain_build((FIXTURES / f"{fixture}.txt").read_text().splitlines())
    assert cause is not None
    assert cause.kind == kind
    assert said in cause.explanation


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "ERROR: pull access denied for team/app, repository does not exist or may require 'docker login'",
            "base_image",
        ),
        ("ERROR: No matching distribution found for nosuch==1 (from versions: 0.1, 0.2)", "package"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify", "certificate"),
        ("Err:1 http://deb.debian.org trixie Could not resolve 'deb.debian.org'", "package_index"),
        ("write /usr/lib/x: no space left on device", "no_space"),
    ],
)
def test_why_builds_fail(line: str, kind: str) -> None:
    cause = image.explain_build(["#5 0.1 " + line])
    assert cause is not None
    assert cause.kind == kind


def test_a_failure_of_the_dockerfile_s_own_is_left_to_its_output() -> None:
    assert image.explain_build(["#5 ERROR: process ... did not complete successfully: exit code: 1"]) is None


def test_the_step_that_failed() -> None:
    lines = (FIXTURES / "build-package-index.txt").read_text().splitlines()
    assert image.failed_step(lines).startswith("[3/3] RUN /v/bin/pip install")
    assert image.failed_step(["Step 1/2 : FROM x", "Step 2/2 : RUN false"]) == "Step 2/2 : RUN false"
    assert image.failed_step(["nothing"]) == ""


def test_the_error_of_a_build() -> None:
    lines = tuple((FIXTURES / "build-package-index.txt").read_text().splitlines())
    error = image.build_failure("mlflow:1", Result((), 1, "", lines, 1.0))
    assert "Building image 'mlflow:1' in the node failed at step [3/3] RUN /v/bin/pip" in error.message
    assert error.message.splitlines()[-1].startswith("ERROR: failed to solve")
    assert len(error.details["output_tail"]) <= 30
    assert error.details["reason"] == "package_index"


def test_steps_are_shown_once_and_long_ones_give_signs_of_life() -> None:
    now = 0.0
    shown: list[str] = []
    progress = image.BuildProgress(shown.append, lambda: now)
    script: list[tuple[float, str]] = [
        (0, "#1 [internal] load build definition from Dockerfile"),
        (0, "#5 [builder 1/2] FROM docker.io/library/python:3.13-slim"),
        (1, "#6 [builder 2/2] RUN pip install mlflow"),
        (2, "#6 1.0 Collecting mlflow"),
        (7, "#6 6.0 Collecting pandas"),
        (8, "#6 7.0 Collecting numpy"),
        (9, "#6 [builder 2/2] RUN pip install mlflow"),
        (9, "#6 DONE 8.0s"),
        (9, "Step 3/9 : COPY a b"),
    ]
    for at, line in script:
        now = at
        progress(line)
    assert shown == [
        "[builder 1/2] FROM docker.io/library/python:3.13-slim",
        "[builder 2/2] RUN pip install mlflow",
        "  Collecting pandas",
        "Step 3/9 : COPY a b",
    ]


@dataclass
class Node:
    """Stands for the node's images: what `image` commands do to them, or silently do not."""

    images: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    running: bool = True
    builds: str | None = "sha256:new"
    loads: dict[str, str] = field(default_factory=dict)
    removes: bool = True

    def run(self, *arguments: str, **_: Any) -> Result:
        answer = ""
        match arguments[:2]:
            case ("image", "ls"):
                listed = [{"id": "base", "repoTags": ["registry.k8s.io/pause:3"], "size": "1"}] + [
                    {"id": identity.removeprefix("sha256:"), "repoTags": [name], "size": "7"}
                    for name, identity in self.images.items()
                ]
                answer = json.dumps(listed if self.running else [])
            case ("image", "load"):
                self.images |= self.loads
            case ("image", "tag"):
                self.images[image.full_name(arguments[3])] = self.images[image.full_name(arguments[2])]
            case ("image", "rm"):
                if self.removes:
                    del self.images[image.full_name(arguments[2])]
        self.calls.append(" ".join(arguments[:2]))
        return Result(arguments, 0, answer, (), 0.1)


@dataclass
class Rig:
    node: Node
    images: NodeImages
    context: Path

    def ensure(self, *, force: bool = False, check_mode: bool = False, **source: Any) -> image.Outcome:
        given = Source(**(source or {"context": self.context}))
        return self.images.ensure_present("app:1", given, force=force, check_mode=check_mode)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    profile = tmp_path / ".minikube/profiles/lab/config.json"
    profile.parent.mkdir(parents=True)
    profile.write_bytes((FIXTURES / "profile-docker.json").read_bytes())
    (tmp_path / "build").mkdir()
    (tmp_path / "build/Dockerfile").write_text("FROM scratch\n")
    node = Node()
    minikube = Minikube(profile="lab", binary="sh", home=str(tmp_path))
    monkeypatch.setattr(minikube, "run", node.run)
    images = NodeImages(minikube, lambda _line: None)

    def build(_profile: Any, target: str, _source: Any) -> Result:
        node.calls.append("build")
        if node.builds:
            node.images[image.full_name(target)] = node.builds
        return Result((), 0 if node.builds else 1, "", ("ERROR: failed to solve: x",), 0.1)

    monkeypatch.setattr(images, "_build_in_docker", build)
    return Rig(node, images, tmp_path / "build")


NAME = "docker.io/library/app:1"


def test_an_image_is_built_once(rig: Rig) -> None:
    first = rig.ensure()
    assert first.image == image.Image(NAME, "sha256:new", 7)
    assert first.difference.result()["diff"] == {
        "before": {"image": None},
        "after": {"image": {"name": "app:1", "id": "sha256:new"}},
    }
    rig.node.calls.clear()
    assert not rig.ensure().difference
    assert rig.node.calls == ["image ls"]


def test_a_build_that_leaves_no_image_is_an_error(rig: Rig) -> None:
    rig.node.builds = None
    with pytest.raises(MlopsError, match=r"Building image 'app:1' in the node failed\.(?s:.*)failed to solve"):
        rig.ensure()


def test_a_build_that_fails_leaves_the_old_image(rig: Rig) -> None:
    rig.node.images[NAME] = "sha256:old"
    rig.node.builds = None
    with pytest.raises(MlopsError, match="Building image 'app:1' in the node failed"):
        rig.ensure(force=True)
    assert rig.node.images == {NAME: "sha256:old"}


def test_a_forced_build_replaces_the_image_and_leaves_no_other_name(rig: Rig) -> None:
    rig.node.images[NAME] = "sha256:old"
    outcome = rig.ensure(force=True)
    assert rig.node.images == {NAME: "sha256:new"}
    assert outcome.difference.before == {"image": {"name": "app:1", "id": "sha256:old"}}


def test_a_forced_build_of_the_same_changes_nothing(rig: Rig) -> None:
    rig.node.images[NAME] = "sha256:new"
    assert not rig.ensure(force=True).difference


def test_check_mode_only_looks(rig: Rig) -> None:
    assert rig.ensure(check_mode=True).difference.after["image"]["id"] == "(known after the build)"
    assert rig.node.calls == ["image ls"]


def test_check_mode_without_a_cluster_says_that_it_would_change(rig: Rig) -> None:
    rig.node.running = False
    assert rig.ensure(check_mode=True).difference
    with pytest.raises(MlopsError, match=r"does not run, or does not answer\. Start it first"):
        rig.ensure()


def test_without_a_profile(tmp_path: Path) -> None:
    images = NodeImages(Minikube(profile="lab", binary="sh", home=str(tmp_path)), print)
    (tmp_path / "Dockerfile").touch()
    source = Source(context=tmp_path)
    assert images.ensure_present("app:1", source, force=False, check_mode=True).difference
    with pytest.raises(MlopsError, match="there is no Minikube profile 'lab'"):
        images.ensure_present("app:1", source, force=False, check_mode=False)
    assert not images.ensure_absent("app:1", check_mode=False).difference


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (lambda folder: Source(context=folder / "none"), "There is no folder"),
        (lambda folder: Source(context=folder, dockerfile="Other"), "There is no file 'Other'"),
        (lambda folder: Source(context=folder, build_args={"A B": "x"}), "is not the name of a build argument"),
        (lambda folder: Source(archive=folder / "none.tar"), "There is no image archive"),
    ],
)
def test_bad_sources_are_refused_before_anything_is_called(
    rig: Rig, source: Callable[[Path], Source], said: str
) -> None:
    with pytest.raises(MlopsError, match=said):
        rig.images.ensure_present("app:1", source(rig.context), force=False, check_mode=True)
    assert rig.node.calls == []


def test_an_image_from_nowhere(rig: Rig) -> None:
    with pytest.raises(MlopsError, match="nothing says where it comes from"):
        rig.images.ensure_present("app:1", Source(), force=False, check_mode=False)


def test_an_archive_is_loaded_when_the_node_has_another_image(rig: Rig, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", manifest_json=[{"Config": "abc.json", "RepoTags": ["app:1"]}])
    rig.node.images[NAME] = "sha256:old"
    rig.node.loads = {NAME: "sha256:abc"}
    assert rig.ensure(archive=path).image == image.Image(NAME, "sha256:abc", 7)
    rig.node.calls.clear()
    assert not rig.ensure(archive=path).difference
    assert rig.node.calls == ["image ls"]


def test_a_load_that_leaves_the_old_image_is_an_error(rig: Rig, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", manifest_json=[{"Config": "abc.json", "RepoTags": ["app:1"]}])
    rig.node.images[NAME] = "sha256:old"
    with pytest.raises(MlopsError, match="its image is still sha256:old, instead of sha256:abc") as failure:
        rig.ensure(archive=path)
    assert failure.value.details["reason"] == "not_loaded"


def test_a_load_that_does_nothing_is_an_error(rig: Rig, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", manifest_json=[{"Config": "abc.json", "RepoTags": ["app:1"]}])
    with pytest.raises(MlopsError, match="there is no such image"):
        rig.ensure(archive=path)


def test_removing(rig: Rig) -> None:
    rig.node.images[NAME] = "sha256:old"
    assert rig.images.ensure_absent("app:1", check_mode=True).difference
    assert NAME in rig.node.images
    assert rig.images.ensure_absent("app:1", check_mode=False).difference
    assert NAME not in rig.node.images
    assert not rig.images.ensure_absent("app:1", check_mode=False).difference


def test_an_image_that_a_container_uses_stays_and_that_is_an_error(rig: Rig) -> None:
    rig.node.images[NAME] = "sha256:old"
    rig.node.removes = False
    with pytest.raises(MlopsError, match="is still in the node"):
        rig.images.ensure_absent("app:1", check_mode=False)


@pytest.mark.parametrize(
    ("runtime", "option"),
    [("containerd", "--build-opt=opt=build-arg:A=1"), ("crio", "--build-opt=build-arg=A=1")],
)
def test_other_runtimes_build_by_minikube(rig: Rig, tmp_path: Path, runtime: str, option: str) -> None:
    profile = tmp_path / ".minikube/profiles/lab/config.json"
    config = json.loads(profile.read_text())
    config["KubernetesConfig"]["ContainerRuntime"] = runtime
    profile.write_text(json.dumps(config))
    seen: list[tuple[str, ...]] = []

    class Program(Minikube):
        def run(self, *arguments: str, **_: Any) -> Result:
            seen.append(arguments)
            if arguments[1] == "build":
                (Path(self.environment["TMPDIR"]) / "build.12345.tar").touch()
            return Result(arguments, 0, "[]", (), 0.1)

    images = NodeImages(Program(profile="lab", binary="sh", home=str(tmp_path)), print)
    images._build_by_minikube("app:1", Source(context=rig.context, build_args={"A": "1"}))
    build, clean = seen
    assert build == ("image", "build", "--tag=app:1", "--file=Dockerfile", option, str(rig.context))
    assert clean[-1] == "sudo rm -rf /var/lib/minikube/build/build.12345.tar /var/lib/minikube/build/build.12345"


def test_an_image_has_to_be_on_every_node(tmp_path: Path, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / ".minikube/profiles/lab/config.json"
    config = json.loads(profile.read_text())
    second = config["Nodes"][0] | {"Name": "m02", "ControlPlane": False}
    profile.write_text(json.dumps(config | {"Nodes": [config["Nodes"][0], second]}))
    rig.node.images[NAME] = "sha256:old"
    first_node = {"images": [{"repoTags": [NAME]}]}

    def run(*arguments: str, **options: Any) -> Result:
        if arguments[0] == "ssh":
            return Result(arguments, 0, json.dumps(first_node if arguments[2] == "lab" else {"images": []}), (), 0.1)
        return rig.node.run(*arguments, **options)

    minikube = Minikube(profile="lab", binary="sh", home=str(tmp_path))
    monkeypatch.setattr(minikube, "run", run)
    assert NAME not in (NodeImages(minikube, print).listed() or {})


def test_contents_of_files_are_text() -> None:
    assert image.check_files({"a": "b"}) == {"a": "b"}
    for wrong in ([], {"a": 1}, "a", None):
        with pytest.raises(MlopsError, match="has to be a dictionary"):
            image.check_files(wrong)
