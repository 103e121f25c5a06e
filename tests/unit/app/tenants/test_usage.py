"""The groups of a usage report."""

from __future__ import annotations

import pytest

from app.errors import InvalidRequest
from app.tenants.usage import groups_of


@pytest.mark.parametrize(
    ("names", "groups"),
    [("", []), ("day", ["day"]), (" model , tenant,", ["model", "tenant"])],
)
def test_groups_are_read_in_their_order(names: str, groups: list[str]) -> None:
    """Groups are separated by commas, in any order, with spaces; an empty list is one sum."""
    assert groups_of(names) == groups


@pytest.mark.parametrize("names", ["colour", "day,day", "day;model"])
def test_wrong_groups_are_refused(names: str) -> None:
    """An unknown or repeated group is an error in the field `by`."""
    with pytest.raises(InvalidRequest) as refused:
        groups_of(names)
    assert [wrong.field for wrong in refused.value.fields] == ["by"]
