"""Reading of a W3C traceparent."""

from __future__ import annotations

import pytest

from app.trace import read

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("text", [GOOD, GOOD[:-2] + "00", "cc" + GOOD[2:]])
def test_a_valid_traceparent_is_returned_unchanged(text: str) -> None:
    """All flags, and all versions except ff, are valid."""
    assert read(text) == text


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "ff" + GOOD[2:],
        GOOD.upper(),
        GOOD + "-more",
        GOOD + "\n",
        GOOD[:-1],
        GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        GOOD.replace("00f067aa0ba902b7", "0" * 16),
        GOOD.replace("b7", "١٢"),
    ],
)
def test_an_invalid_traceparent_is_ignored(text: str | None) -> None:
    """An invalid traceparent gives none and raises no error, as the specification asks."""
    assert read(text) is None
