# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests that need an MLflow server on localhost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlflow_server import Running, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that is a test file's own: what it holds is counted there."""
    with serving(tmp_path_factory.mktemp("mlflow")) as running:
        yield running
