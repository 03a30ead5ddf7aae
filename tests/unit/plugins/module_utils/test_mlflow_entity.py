# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which things are found, compared, made and changed; real things are in tests/integration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._difference import Difference
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import Client
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_entity import (
    Entity,
    change_part,
    compare_part,
    first,
    tags_of,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import MlflowError, Server
from hypothesis import given
from hypothesis import strategies as st

TAGS = st.dictionaries(st.sampled_from("abcd"), st.text(max_size=2), max_size=4)
WANTED = st.dictionaries(st.sampled_from("abcd"), st.none() | st.text(max_size=2), max_size=4)


@dataclass
class Thing:
    value: str

    def result(self) -> dict[str, Any]:
        return {"value": self.value}


class Kept(Entity[Thing]):
    """A thing with one value; `theirs` is what somebody makes just before we do."""

    what = "a thing"
    there: Thing | None = None
    theirs: Thing | None = None
    error = MlflowError("exists", code="RESOURCE_ALREADY_EXISTS")

    def find(self) -> Thing | None:
        return self.there

    def compare(self, actual: Thing | None) -> Difference:
        difference = Difference()
        difference.compare("value", actual and actual.value, self.parameters["value"])
        return difference

    def create(self) -> Thing | None:
        if self.theirs or self.error.code != "RESOURCE_ALREADY_EXISTS":
            self.there = self.theirs
            raise self.error
        self.there = Thing(self.parameters["value"])
        return self.there

    def change(self, actual: Thing, difference: Difference) -> Thing | None:
        assert actual is self.there
        self.there = Thing(difference.after["value"])
        return self.there


def kept(there: str | None = None, theirs: str | None = None, *, check_mode: bool = False, **parameters: Any) -> Kept:
    entity = Kept(
        Client(Server("http://mlflow.local")), {"name": "x", "value": "new"} | parameters, check_mode=check_mode
    )
    entity.there, entity.theirs = there and Thing(there), theirs and Thing(theirs)
    return entity


@pytest.mark.parametrize(
    ("there", "theirs", "before"), [(None, None, None), ("old", None, "old"), (None, "theirs", "theirs")]
)
def test_it_is_made_or_changed_whoever_was_faster(there: str | None, theirs: str | None, before: str | None) -> None:
    actual, difference = kept(there, theirs).keep()
    assert actual == Thing("new")
    assert (difference.before, difference.after) == ({"value": before}, {"value": "new"})


@pytest.mark.parametrize(("there", "theirs"), [("new", None), (None, "new")])
def test_nothing_is_changed_where_all_is_right(there: str | None, theirs: str | None) -> None:
    actual, difference = kept(there, theirs).keep()
    assert actual == Thing("new")
    assert not difference


@pytest.mark.parametrize("there", [None, "old"])
def test_check_mode_changes_nothing_and_foresees_the_same(there: str | None) -> None:
    foreseen = kept(there, check_mode=True)
    actual, difference = foreseen.keep()
    assert (actual, foreseen.there) == (there and Thing(there), there and Thing(there))
    assert difference == kept(there).keep()[1]


def test_other_errors_are_told() -> None:
    entity = kept()
    entity.error = MlflowError("no", code="PERMISSION_DENIED")
    with pytest.raises(MlflowError, match="no"):
        entity.keep()


def test_a_name_that_is_none() -> None:
    with pytest.raises(MlopsError, match="The name of a thing must not be empty"):
        kept(name=" ")


def test_tags_of_a_new_thing() -> None:
    assert kept(tags={"a": 1, "b": None}).initial_tags == {"a": "1"}


def test_tags_become_text() -> None:
    assert tags_of({"a": 1, "b": True, 3: "c", "d": None, "e": 1.5}) == {
        "a": "1",
        "b": "True",
        "3": "c",
        "d": None,
        "e": "1.5",
    }
    with pytest.raises(MlopsError, match="'a' has to be text"):
        tags_of({"a": ["x"]})


@given(TAGS, WANTED)
def test_a_part_becomes_what_is_wanted_and_the_rest_is_left_alone(
    actual: dict[str, str], wanted: dict[str, str | None]
) -> None:
    difference, result = Difference(), dict(actual)
    compare_part(difference, "tags", actual, wanted)
    change_part(difference, "tags", result.__setitem__, result.__delitem__)
    assert result == {key: value for key, value in (actual | wanted).items() if value is not None}
    assert bool(difference) == (result != actual)


def test_lists_are_cut_off_and_say_so() -> None:
    items = ["a", "b", "c"]
    assert first(3, lambda limit: items[:limit]) == (items, False)
    assert first(2, lambda limit: items[:limit]) == (["a", "b"], True)
    with pytest.raises(MlopsError, match="at least 1, not 0"):
        first(0, lambda limit: items[:limit])
