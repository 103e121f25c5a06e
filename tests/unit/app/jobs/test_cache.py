"""The key of the result cache: which requests have the same pictures."""

from __future__ import annotations

import pytest

from app.jobs.cache import key_of, repeatable
from tests.integration.records import REQUEST


@pytest.mark.parametrize(
    "change", [{"quality": 10}, {"seed": 8}, {"image": "data:image/png;base64,AA"}]
)
def test_the_key_depends_on_all_that_changes_the_picture(change: dict[str, object]) -> None:
    """Another seed, input picture or quality gives another key; other metadata does not."""
    assert key_of(REQUEST | change, "r") != key_of(REQUEST, "r")
    assert key_of(REQUEST | {"metadata": {"a": 1}}, "r") == key_of(REQUEST, "r")


@pytest.mark.parametrize("field", ["image", "mask"])
def test_a_request_with_a_url_is_not_repeatable(field: str) -> None:
    """A URL may give another picture the next time; an upload cannot."""
    assert not repeatable(REQUEST | {field: "https://there.test/a.png"})
    assert repeatable(REQUEST | {field: "uploads/0199c1de-0000-7000-8000-000000000001"})
    assert repeatable(REQUEST)
