# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which paths are taken; real files are in tests/integration."""

from __future__ import annotations

import urllib.parse
from pathlib import Path, PurePosixPath

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_artifact import Content, content_of, safe_path
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "path",
    [
        "/a",
        "../a",
        "a/../../b",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "a\nb",
        "%2e%2e/a",
        "a#b",
        "mlflow-artifacts:/3/a",
    ],
)
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(MlopsError, match=r"path"):
        safe_path(path)


@pytest.mark.parametrize("path", ["a", "3/datasets/ab.csv", "a b/ü..x/.hidden"])
def test_paths_that_are_taken(path: str) -> None:
    assert safe_path(path) == path


@given(st.text(st.sampled_from("ab./\\%2e#: \n\0"), min_size=1))
def test_a_path_that_is_taken_stays_below_the_root_and_is_read_to_the_letter(path: str) -> None:
    try:
        safe_path(path)
    except MlopsError:
        return
    pure = PurePosixPath(path)
    assert str(pure) == path == urllib.parse.unquote(path)
    assert not pure.is_absolute()
    assert ".." not in pure.parts


def test_what_is_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content_of(str(file)) == Content(3, digest)
    with pytest.raises(MlopsError, match="cannot be read on the host that runs this module: Is a directory"):
        content_of(str(tmp_path))
