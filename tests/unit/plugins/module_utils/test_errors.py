"""One exception base, turned into `fail_json` in one place."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError, run_module


class EndedError(Exception):
    """What stands in for the end of the process."""


class Module:
    """As much of an AnsibleModule as `run_module` relies on."""

    def exit_json(self, **result: Any) -> NoReturn:
        raise EndedError("exit", result)

    def fail_json(self, **result: Any) -> NoReturn:
        raise EndedError("fail", result)


def test_a_result_ends_the_module() -> None:
    with pytest.raises(EndedError) as ended:
        run_module(Module(), lambda module: {"changed": True})
    assert ended.value.args == ("exit", {"changed": True})


def test_an_error_fails_with_its_details() -> None:
    def work(module: object) -> NoReturn:
        raise MlopsError("It went wrong: try again.", rc=3)

    with pytest.raises(EndedError) as ended:
        run_module(Module(), work)
    assert ended.value.args == ("fail", {"msg": "It went wrong: try again.", "rc": 3})


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_module(Module(), lambda module: {"changed": 1 / 0})
