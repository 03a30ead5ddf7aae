"""The record from which `changed` and `diff` follow."""

from __future__ import annotations

from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference


def test_equal_settings_leave_it_empty() -> None:
    difference = Difference.between({"a": 1, "b": 2}, {"a": 1})
    assert not difference
    assert difference.result() == {"changed": False, "diff": {"before": {}, "after": {}}}


def test_only_what_differs_is_shown() -> None:
    difference = Difference.between({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": ""})
    assert difference.result() == {"changed": True, "diff": {"before": {"b": 2, "c": None}, "after": {"b": 3, "c": ""}}}


def test_a_falsy_wanted_value_counts() -> None:
    difference = Difference()
    assert difference.compare("replicas", 1, 0)
    assert difference
