"""Parsing and judgement of node_directory, and its scripts run by the shells that nodes have."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _node_directory as node
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from hypothesis import given
from hypothesis import strategies as st

DEFAULTS: dict[str, Any] = {name: spec.get("default") for name, spec in node.ARGUMENT_SPEC.items()}
SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(not shutil.which(shell[0]), reason=f"no {shell[0]}"))
    for shell in (["dash", "-s"], ["bash", "--posix", "-s"], ["busybox", "sh", "-s"])
]


def wanted(path: object = "/data/mlflow", **options: Any) -> node.Wanted:
    return node.parse_wanted(DEFAULTS | {"path": path} | options)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/", "belongs to the node's system"),
        ("//", "belongs to the node's system"),
        ("/.", "belongs to the node's system"),
        ("/data/", "belongs to the node's system"),
        ("/etc/mlflow", "belongs to the node's system"),
        ("/var/lib/kubelet/pods", "belongs to the node's system"),
        ("mlflow", "relative"),
        ("./data/mlflow", "relative"),
        ("~/mlflow", "relative"),
        ("/data/../etc", "contains '..'"),
        ("/data/mlflow/..", "contains '..'"),
        ("/data/ml\nflow", "control characters"),
        ("", "must be a directory on the node"),
        (None, "must be a directory on the node"),
        (["/data/mlflow"], "must be a directory on the node"),
    ],
)
def test_dangerous_paths_are_refused(path: object, reason: str) -> None:
    with pytest.raises(MlopsError, match=reason):
        wanted(path)


@pytest.mark.parametrize("path", ["/data/mlflow", "/data//mlflow/", "/data/./mlflow", "/data/mlflow/."])
def test_paths_are_made_plain(path: str) -> None:
    assert wanted(path).path == "/data/mlflow"
    assert wanted(path).ancestors == ["/data"]


@pytest.mark.parametrize(
    "path", ["/mlflow", "/mnt/data", "/etcetera/x", "/var/lib/mlflow", "/data/a..b", "/data/ä '$x"]
)
def test_other_paths_are_taken(path: str) -> None:
    assert wanted(path).path == path


@pytest.mark.parametrize("mode", [750, 0o750, "rwxr-x---", "0999", "75", "000750", None, True])
def test_modes_must_be_octal_text(mode: object) -> None:
    with pytest.raises(MlopsError, match="in quotes such as '0750'"):
        wanted(mode=mode)


@pytest.mark.parametrize("owner", ["-1", "", "a b", "$(id)", "0x10", "²"])
def test_accounts_must_be_numbers_or_names(owner: str) -> None:
    with pytest.raises(MlopsError, match="owner must be a number or a name"):
        wanted(owner=owner)


def test_group_follows_owner() -> None:
    assert wanted(owner="10001").group == "10001"
    assert wanted(owner="10001", group="0").group == "0"


@pytest.mark.parametrize("files", [{"a/b": "x"}, {"..": "x"}, {"": "x"}, {"a": 1}, {"a": "\0"}, {"a": "x" * 70000}])
def test_odd_files_are_refused(files: dict[str, object]) -> None:
    with pytest.raises(MlopsError, match="files: "):
        wanted(files=files)


# --- The scripts ---


def answer(shell: list[str], script: str) -> node.Found:
    run = subprocess.run(shell, input=script.encode(), capture_output=True, check=True, timeout=20)
    assert run.stderr == b""
    return node.parse_found(run.stdout.decode(errors="surrogateescape"))


def keep(shell: list[str], goal: node.Wanted) -> list[dict[str, Any]]:
    """What the action plugin does, without a connection."""
    found = answer(shell, node.read_script(goal))
    node.refuse(goal, found)
    changes = node.differences(goal, found)
    if changes:
        after = answer(shell, node.apply_script(goal, found))
        assert node.differences(goal, after) == {}
    return node.as_diff(changes)


def mine(path: Path, **options: Any) -> node.Wanted:
    return wanted(str(path), owner=str(os.getuid()), group=str(os.getgid()), **options)


@pytest.mark.parametrize("shell", SHELLS)
def test_makes_repairs_and_removes(shell: list[str], tmp_path: Path) -> None:
    leaf = tmp_path / "it's $HOME" / "ü" / "mlflow"
    goal = mine(leaf, mode="0750", files={"index.html": "Hello 'from'\n$(storage)\\n%s\n"})
    changes = keep(shell, goal)
    assert changes[0]["before"] == {
        "state": "absent",
        "owner": None,
        "group": None,
        "mode": None,
        "created_parents": [],
    }
    assert changes[0]["after"]["created_parents"] == [str(leaf.parent.parent), str(leaf.parent)]
    assert leaf.stat().st_mode & 0o7777 == 0o750
    assert leaf.parent.stat().st_mode & 0o7777 == 0o755
    assert (leaf / "index.html").read_text() == "Hello 'from'\n$(storage)\\n%s\n"
    assert (leaf / "index.html").stat().st_mode & 0o7777 == 0o640
    assert sorted(leaf.parent.iterdir()) == [leaf]
    assert keep(shell, goal) == []

    leaf.chmod(0o2777)
    (leaf / "index.html").write_bytes(b"\xff\x00")
    changes = keep(shell, goal)
    assert [change["before_header"] for change in changes] == [str(leaf), str(leaf / "index.html")]
    assert changes[0]["before"] == {"mode": "2777"}
    assert changes[1]["before"] == {"content": "\\xff\x00"}
    assert leaf.stat().st_mode & 0o7777 == 0o750
    assert keep(shell, goal) == []

    (leaf / "runs").mkdir()
    (leaf / "runs" / "1").write_text("x")
    gone = mine(leaf, state="absent")
    assert [change["after"] for change in keep(shell, gone)] == [{"state": "absent"}]
    assert not leaf.exists()
    assert leaf.parent.exists()
    assert keep(shell, gone) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_links_and_files_in_the_way_are_refused(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "file").write_text("kept")
    os.mkfifo(tmp_path / "fifo")
    for path, reason in [
        ("link", "symbolic link to real"),
        ("link/x/y", "symbolic link to real"),
        ("broken", "symbolic link to nowhere"),
        ("file", "is a file, not a directory"),
        ("file/x", "is a file, not a directory"),
        ("fifo", "is a fifo, not a directory"),
    ]:
        for state in ("present", "absent"):
            with pytest.raises(MlopsError, match=reason):
                keep(shell, mine(tmp_path / path, state=state))
    (tmp_path / "real" / "index.html").symlink_to(tmp_path / "file")
    with pytest.raises(MlopsError, match=r"index.html on the node is a link, not a file"):
        keep(shell, mine(tmp_path / "real", files={"index.html": "x"}))
    assert (tmp_path / "file").read_text() == "kept"
    assert list((tmp_path / "real").iterdir()) == [tmp_path / "real" / "index.html"]


@pytest.mark.parametrize("shell", SHELLS)
def test_accounts_by_name(shell: list[str], tmp_path: Path) -> None:
    goal = wanted(str(tmp_path / "x"), owner="daemon", group="nogroup", state="present")
    found = answer(shell, node.read_script(goal))
    assert (found.uid, found.gid) == (1, 65534)
    with pytest.raises(MlopsError, match="owner 'nobody-knows' is not known on the node"):
        keep(shell, wanted(str(tmp_path / "x"), owner="nobody-knows", group="0"))
    with pytest.raises(MlopsError, match="group 'nobody-knows' is not known on the node"):
        keep(shell, wanted(str(tmp_path / "x"), group="nobody-knows"))


@pytest.mark.parametrize("shell", SHELLS)
def test_space_is_asked_for_before_the_directory_is_made(shell: list[str], tmp_path: Path) -> None:
    greedy = mine(tmp_path / "new", min_free_mb=10**9)
    with pytest.raises(MlopsError, match=r"No space on the node: \d+ MB are free"):
        keep(shell, greedy)
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()
    found = answer(shell, node.read_script(greedy))
    node.refuse(greedy, found)
    assert "MB are free" in node.warnings(greedy, found)[0]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_failing_command_is_told(shell: list[str], tmp_path: Path) -> None:
    goal = mine(tmp_path / "a" / "b")
    found = answer(shell, node.read_script(goal))
    (tmp_path / "a").write_text("in the way by now")
    with pytest.raises(
        MlopsError, match=r"`mkdir -p .*/a/` failed with exit code 1: .*(exists|Not a directory)"
    ) as caught:
        answer(shell, node.apply_script(goal, found))
    assert caught.value.details["command"] == f"mkdir -p {tmp_path}/a/"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_keep_any_text(shell: list[str], tmp_path: Path) -> None:
    for number, content in enumerate(
        ["", "\n", "\n\n", "-n", "%d\\", "\r\n", "ä\u2028\t", "'\"`$(", "x" * node.MAX_FILE_BYTES]
    ):
        goal = mine(tmp_path / str(number), files={"-n 'f'": content})
        keep(shell, goal)
        assert (tmp_path / str(number) / "-n 'f'").read_bytes() == content.encode()
        assert keep(shell, goal) == []


def test_a_mount_point_is_not_removed() -> None:
    goal = wanted(state="absent")
    with pytest.raises(MlopsError, match="/data/mlflow/x is a mount point"):
        node.refuse(goal, node.Found(mounts=["/data/mlflow/x"]))


def test_memory_is_warned_about() -> None:
    assert "does not survive a restart" in node.warnings(wanted(), node.Found(filesystem="tmpfs"))[0]


def test_an_answer_cut_short_is_an_error() -> None:
    with pytest.raises(MlopsError, match="stopped before its answer was complete"):
        node.parse_found("space\t100 4096 ext2/ext3\n")


def test_missing_sudo_is_told() -> None:
    with pytest.raises(MlopsError, match=r"passwordless sudo.*a password is required"):
        node.parse_found("sudo\tsudo: a password is required\n")


@given(st.text(max_size=40))
def test_any_path_is_either_refused_or_plain(text: str) -> None:
    try:
        path = node.parse_path("/data/" + text)
    except MlopsError:
        return
    assert path.startswith("/data/")
    assert ".." not in path.split("/")
    assert path not in node.OPEN
