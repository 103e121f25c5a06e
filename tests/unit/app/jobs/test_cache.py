"""What makes two requests the same picture."""

from __future__ import annotations

import pytest

from app.jobs.cache import key_of, repeatable
from tests.integration.records import REQUEST


@pytest.mark.parametrize(
    "change", [{"quality": 10}, {"seed": 8}, {"image": "data:image/png;base64,AA"}]
)
def test_what_is_drawn_from_is_in_the_key(change: dict[str, object]) -> None:
    """Another seed, start or quality is another picture; a label is not."""
    assert key_of(REQUEST | change, "r") != key_of(REQUEST, "r")
    assert key_of(REQUEST | {"metadata": {"a": 1}}, "r") == key_of(REQUEST, "r")


@pytest.mark.parametrize("field", ["image", "mask"])
def test_what_lies_elsewhere_is_not_repeated(field: str) -> None:
    """A URL of somebody else may give another picture the next time; an upload stays."""
    assert not repeatable(REQUEST | {field: "https://there.test/a.png"})
    assert repeatable(REQUEST | {field: "uploads/0199c1de-0000-7000-8000-000000000001"})
    assert repeatable(REQUEST)
