"""Redis: entries that other programs wrote into a stream."""

from __future__ import annotations

import pytest

from renderfarm.queues.redis_stream import _message


def test_a_bare_body_is_enough() -> None:
    """An entry with only a body (`XADD NAME * body ...`) is a message, with the entry's id."""
    message = _message(b"1-0", 1, [b"body", b"{}"])
    assert (message.body, message.id, message.attempt, message.attributes) == (b"{}", "1-0", 1, {})


def test_no_body_is_an_empty_one() -> None:
    """An entry without a body is still received, so that it can be rejected."""
    assert _message(b"1-0", 1, [b"prompt", b"x"]).body == b""


@pytest.mark.parametrize("text", [b"{", b"[1]", b"7", b"\xff", b'{"a": 1}'])
def test_broken_attributes_are_none(text: bytes) -> None:
    """Attributes that are not an object of strings are dropped; the message is kept."""
    assert _message(b"1-0", 1, [b"body", b"{}", b"attributes", text]).attributes == {}


@pytest.mark.parametrize("count", [b"-1", b"many", b"1e9", b""])
def test_a_broken_count_is_none(count: bytes) -> None:
    """A count of attempts that is not a number is read as zero."""
    assert _message(b"1-0", 2, [b"body", b"{}", b"attempts", count]).attempt == 2
