# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One record of what differs, from which both `changed` and `diff` follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Difference:
    """Collects settings whose actual value is not the wanted one.

    Settings that agree are left out, so that an empty record means "nothing to do".
    """

    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)

    def compare(self, name: str, actual: Any, wanted: Any) -> bool:
        """Note `name` where `actual` is not `wanted`; returns whether it differs."""
        if actual == wanted:
            return False
        self.before[name] = actual
        self.after[name] = wanted
        return True

    @classmethod
    def between(cls, actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> Difference:
        """The record for every key of `wanted`; a key that `actual` lacks counts as None."""
        difference = cls()
        for name, value in wanted.items():
            difference.compare(name, actual.get(name), value)
        return difference

    def __bool__(self) -> bool:
        return bool(self.after)

    def result(self) -> dict[str, Any]:
        """The `changed` and `diff` keys of a module's result (Ansible's own names and shape)."""
        return {"changed": bool(self), "diff": {"before": self.before, "after": self.after}}
