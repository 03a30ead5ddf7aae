# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one file of a server's artifact store into a state, without ever holding it in memory."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import Client
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_entity import Entity
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import server_of

# What a server decodes or refuses in a path (`mlflow.utils.uri.validate_path_is_safe`).
_UNSAFE = "\\%#"


@dataclass(frozen=True)
class Content:
    """What is in a file; no digest where it was not read."""

    size: int
    sha256: str | None = None

    def result(self) -> dict[str, Any]:
        """As modules return it."""
        return {"size": self.size, "sha256": self.sha256}


def ensure(parameters: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The module: bring the file into the state that `parameters` name."""
    with Client(server_of(parameters), parameters["timeout"]) as client:
        actual, difference = KeptArtifact(client, parameters, check_mode=check_mode).keep()
        path = parameters["path"]
        content = actual.result() if actual else {"size": None, "sha256": None}
        return {"path": path, "uri": f"mlflow-artifacts:/{path}", **content, **difference.result()}


class KeptArtifact(Entity[Content]):
    """A file in the artifact store, known by its path."""

    what = "an artifact"
    named_by = ("path",)

    def __init__(self, client: Client, parameters: Mapping[str, Any], *, check_mode: bool) -> None:
        super().__init__(client, parameters, check_mode=check_mode)
        self.path = safe_path(parameters["path"])
        self.src: str = parameters["src"]
        self.wanted = content_of(self.src) if parameters["state"] == "present" else None

    def find(self) -> Content | None:
        """The file; its content is read only where the size is the wanted one."""
        directory, name = posixpath.split(self.path)
        file = next((file for file in self.client.files(directory) if file.name == name), None)
        if file is None:
            return None
        if file.size is None:
            raise MlopsError(
                f"{self.path} is a directory of the artifact store, and not a file: give the path of a file"
            )
        if self.wanted is None or file.size != self.wanted.size:
            return Content(file.size)
        digest = hashlib.sha256()
        for piece in self.client.pieces(self.path):
            digest.update(piece)
        return Content(file.size, digest.hexdigest())

    def compare(self, actual: Content | None) -> Difference:
        """What has to change in its size and digest."""
        difference = Difference()
        difference.compare("size", actual and actual.size, self.wanted and self.wanted.size)
        difference.compare("sha256", actual and actual.sha256, self.wanted and self.wanted.sha256)
        return difference

    def create(self) -> Content | None:
        """Upload it."""
        with open(self.src, "rb") as file:
            self.client.upload(self.path, file)
        return self.wanted

    def change(self, actual: Content, difference: Difference) -> Content | None:  # noqa: ARG002  one shape for all
        """Replace or remove it."""
        if self.wanted:
            return self.create()
        self.client.delete_artifact(self.path)
        return None


def safe_path(path: str) -> str:
    """The path, where it is one below the store's root that a server takes to the letter."""
    if path.startswith("mlflow-artifacts:"):
        raise MlopsError(f"The path {path!r} is a URI: give what comes after mlflow-artifacts:/")
    parts = path.split("/")
    if not path.isprintable() or any(part in ("", ".", "..") for part in parts) or any(c in path for c in _UNSAFE):
        raise MlopsError(
            f"{path!r} is not a path in the artifact store: it has to be relative to the store's root, without empty "
            f"parts, `.`, `..`, unprintable characters and any of {' '.join(_UNSAFE)}; for example 3/datasets/ab.csv"
        )
    return path


def content_of(src: str) -> Content:
    """Size and digest of a file of this host."""
    try:
        with open(src, "rb") as file:
            return Content(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise MlopsError(
            f"The file {src} (`src`) cannot be read on the host that runs this module: {error.strerror}"
        ) from error
