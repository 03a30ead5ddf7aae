# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `status`: what the role status found, as a report."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._status import report, table
from ansible_collections.mlops.mlflow.plugins.module_utils._status_page import page

DOCUMENTATION = r"""
name: status
short_description: What the role status found, as a report
version_added: 0.1.0
author: mlops.mlflow contributors (@mlops)
description:
  - Makes of the results that the role C(mlops.mlflow.status) collected one report, for programs and for people.
positional: _input
options:
  _input:
    description: The results, as that role names them.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Put it together
  ansible.builtin.set_fact:
    status: "{{ facts | mlops.mlflow.status }}"
"""

RETURN = r"""
_value:
  description:
    - V(report) is the report, which says whether the instance is V(healthy), its V(problems), and a V(summary).
    - V(table) is the same as lines of text, V(page) as an HTML page.
  type: dict
"""

ROOT = Path(__file__).resolve().parents[2]


def collection_version() -> str:
    """The collection's version, by what its archive or its source says; empty for neither."""
    for name, pattern in (("MANIFEST.json", r'"version": "([^"]+)"'), ("galaxy.yml", r"(?m)^version: (\S+)")):
        path = ROOT / name
        if path.is_file() and (match := re.search(pattern, path.read_text(encoding="utf-8"))):
            return match[1]
    return ""


def status(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The report in its three shapes."""
    made = report(facts, collection_version(), datetime.now(UTC))
    return {"report": made, "table": table(made), "page": page(made)}


class FilterModule:
    """Ansible's entry point for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name and function of each filter."""
        return {"status": status}
