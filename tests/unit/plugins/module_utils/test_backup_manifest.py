"""Manifests, names and the retention rule of backups."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils import _backup_manifest as backup
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

ONE, TWO = "1" * 64, "2" * 64
NAME = "20261124T103000.123456Z"


def manifest(*artifacts: backup.Artifact) -> backup.Manifest:
    return backup.Manifest(NAME, "mlflow", "3.17.2", backup.Database(4096, ONE, "dc11669786a5"), list(artifacts))


def artifact(path: str = "1/run/artifacts/model.bin", sha256: str = TWO) -> backup.Artifact:
    return backup.Artifact(7, 0o640, "1764000000000000000", path, sha256)


def resigned(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A manifest that was changed by somebody who knows how its digest is made."""
    content = json.loads(backup.render(manifest(artifact())))
    del content["digest"]
    change(content)
    return json.dumps(content | {"digest": backup.digest(content)}).encode()


def test_a_manifest_comes_back_as_it_was() -> None:
    given = manifest(artifact(), artifact("1/run/artifacts/größe ü.txt"), artifact("2/a", "3" * 64))
    assert backup.parse(backup.render(given), "here") == given
    assert given.size == 4096 + 3 * 7
    assert len(given.objects) == 3
    assert given.describe()["created"] == "2026-11-24T10:30:00.123456+00:00"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "a/", "", "a\0b", 7, None])
def test_a_path_that_leaves_the_directory_is_refused(path: Any) -> None:
    hostile = resigned(lambda content: content["artifacts"][0].update(path=path))
    with pytest.raises(MlopsError, match="outside the artifacts' directory"):
        backup.parse(hostile, "here")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["artifacts"][0].update(sha256="../../../etc/passwd"),
        lambda content: content["database"].update(sha256="x" * 64),
        lambda content: content.update(name="../x"),
        lambda content: content["artifacts"].append(content["artifacts"][0]),
        lambda content: content["artifacts"][0].update(owner="root"),
        lambda content: content.pop("database"),
    ],
)
def test_what_is_no_manifest_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(MlopsError, match="is not one of a backup"):
        backup.parse(resigned(change), "here")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"digest": "x", "format": "1"}'])
def test_a_file_that_is_cut_is_damaged(text: bytes) -> None:
    with pytest.raises(MlopsError, match="is damaged"):
        backup.parse(text, "here")


def test_a_changed_manifest_is_damaged() -> None:
    text = backup.render(manifest(artifact())).replace(b"model.bin", b"model.bit")
    with pytest.raises(MlopsError, match="its digest is another"):
        backup.parse(text, "here")


def test_a_later_format_is_refused() -> None:
    with pytest.raises(MlopsError, match="format 2"):
        backup.parse(resigned(lambda content: content.update(format=2)), "here")


def test_names() -> None:
    name = backup.new_name(datetime(2026, 11, 24, 10, 30, 0, 123456, tzinfo=UTC))
    assert name == NAME
    assert backup.name_of(backup.backup_key(name)) == name
    assert backup.name_of(backup.object_key(ONE)) == ONE
    for key in (backup.backup_key(name), backup.object_key(ONE), backup.running_key(name)):
        assert backup.check_key(key) == key


@pytest.mark.parametrize(
    "key", ["", "objects/../x", "/etc/passwd", f"backups/{NAME}.json/x", f"backups/../{NAME}", "x\n"]
)
def test_keys_that_no_repository_has(key: str) -> None:
    with pytest.raises(MlopsError, match="not the key of anything"):
        backup.check_key(key)


def test_the_newest_or_the_named_backup_is_chosen() -> None:
    names = ["20261124T103000.123456Z", "20261124T103000.123457Z", "20251231T235959.999999Z"]
    keys = [backup.backup_key(name) for name in names]
    assert backup.choose(keys, "latest", "here") == names[1]
    assert backup.choose(keys, names[2], "here") == names[2]
    with pytest.raises(MlopsError, match=r"no backup 2020.* in here. There are: 20251231T235959.999999Z, "):
        backup.choose(keys, "20200101T000000.000000Z", "here")
    with pytest.raises(MlopsError, match="There are none"):
        backup.choose([], "latest", "here")


def test_retention_keeps_the_newest() -> None:
    keys = ["c", "a", "d", "b"]
    assert backup.expired(keys, 2) == ["a", "b"]
    assert backup.expired(keys, 4) == backup.expired(keys, 9) == []


def test_a_backup_that_was_killed_does_not_run_for_ever() -> None:
    now = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
    old, new = (backup.running_key(backup.new_name(now - age)) for age in (timedelta(hours=25), timedelta(hours=23)))
    assert backup.still_running([old, new], now) == [new]
