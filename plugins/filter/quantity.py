# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `quantity`: a Kubernetes quantity as a number."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: quantity
short_description: A Kubernetes quantity as a number
version_added: 0.1.0
author: mlops.mlflow contributors (@mlops)
description:
  - Turns a quantity such as V(3Gi), V(500M) or V(250m) into a number, so that two of them can be compared.
  - The grammar is that of
    U(https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/).
positional: _input
options:
  _input:
    description: The quantity.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Compare a claim with its volume
  ansible.builtin.assert:
    that: "'3Gi' | mlops.mlflow.quantity <= '10Gi' | mlops.mlflow.quantity"
"""

RETURN = r"""
_value:
  description: The number, in the quantity's base unit (bytes, cores).
  type: float
"""

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+|[KMGTPE]i|[mkMGTPE])?")
_DECIMAL = {"m": -1, "": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def quantity(text: Any) -> float:
    """The number that a Kubernetes quantity stands for; `AnsibleFilterError` where `text` is not one."""
    match = _QUANTITY.fullmatch(str(text))
    if not match:
        raise AnsibleFilterError(f"{text!r} is not a Kubernetes quantity: write a number and a unit (3Gi, 500M)")
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix in _BINARY:
        return float(number * 1024 ** _BINARY[suffix])
    if suffix in _DECIMAL:
        return float(number * Decimal(1000) ** _DECIMAL[suffix])
    return float(number * Decimal(10) ** int(suffix[1:]))


class FilterModule:
    """Ansible's entry point for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name and function of each filter."""
        return {"quantity": quantity}
