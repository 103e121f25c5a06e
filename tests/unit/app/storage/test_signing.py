"""Signed file URLs."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from app.storage.signing import file_url, lasting, sign, verify

SECRET = "0123456789abcdef"
KEY = "tenant/job/1/0.png"


def valid(key: str = KEY, expires: int = 100, signature: str = "", now: float = 0.0) -> bool:
    """Whether the URL of `KEY` until 100 passes with these parts altered."""
    signature = signature or sign(KEY, 100, SECRET)
    return verify(key, expires, signature, secret=SECRET, now=now)


def test_a_signature_holds_until_its_second_comes() -> None:
    """Our own signature passes before its time and not at it."""
    assert valid(now=99.9)
    assert not valid(now=100.0)


def test_a_signature_holds_for_nothing_else() -> None:
    """Another key, another time, another signature or another secret is refused."""
    assert not valid(key="tenant/job/1/1.png")
    assert not valid(expires=101)
    assert not valid(signature=sign(KEY, 100, SECRET)[:-1])
    assert not valid(signature="é")
    assert not verify(KEY, 100, sign(KEY, 100, "another secret.."), secret=SECRET, now=0)


def test_time_and_key_cannot_lend_each_other_digits() -> None:
    """Moving digits between the time and the key gives another signature."""
    assert sign("2/a", 1, SECRET) != sign("/a", 12, SECRET)
    assert sign("2\na", 1, SECRET) != sign("a", 12, SECRET)


@given(
    st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])), st.integers(1, 9**12)
)
def test_a_url_carries_what_verifies(key: str, expires: int) -> None:
    """Whatever the key, its parts read back from the URL pass."""
    parts = urlsplit(file_url("https://farm.test", key, expires, SECRET))
    query = parse_qs(parts.query)
    read = unquote(parts.path.removeprefix("/files/"))
    until = int(query["expires"][0])
    assert (read, until) == (key, expires)
    assert verify(read, until, query["signature"][0], secret=SECRET, now=0)


@given(st.integers(1, 700_000), st.floats(0, 4e9))
def test_a_url_outlives_what_was_asked_for(lasts_s: int, now: float) -> None:
    """It is good for at least that long, and for at most a quarter more."""
    assert lasts_s < lasting(lasts_s, now) - now <= lasts_s + max(1, lasts_s // 4)


def test_a_picture_keeps_its_url_for_a_while() -> None:
    """Within a quarter of its lifetime the same second is given, and then another one."""
    assert lasting(400, 1000.0) == lasting(400, 1099.0)
    assert lasting(400, 1000.0) != lasting(400, 1100.0)
