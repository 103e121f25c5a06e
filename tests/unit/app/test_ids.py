"""Ids are UUIDs of version 7."""

from __future__ import annotations

from uuid import RFC_4122

from hypothesis import given
from hypothesis import strategies as st

from app.ids import made_at_s, new_id

MILLISECONDS = st.integers(0, 2**48 - 1)


@given(MILLISECONDS)
def test_an_id_is_a_uuid_of_version_7(now_ms: int) -> None:
    """Version and variant are those of RFC 9562, and the first 48 bits are the time."""
    job_id = new_id(now_ms)
    assert (job_id.version, job_id.variant) == (7, RFC_4122)
    assert job_id.int >> 80 == now_ms
    assert made_at_s(job_id) == now_ms / 1000


@given(MILLISECONDS, MILLISECONDS)
def test_a_later_id_is_larger(one: int, other: int) -> None:
    """Ids sort by the millisecond of their creation."""
    if one < other:
        assert new_id(one) < new_id(other)


def test_ids_of_one_millisecond_differ() -> None:
    """Ids of one millisecond differ in 74 random bits, none of which is constant."""
    ids = [new_id(0).int for _ in range(500)]
    assert len(set(ids)) == 500
    varying = 0
    for one in ids:
        varying |= one ^ ids[0]
    assert varying.bit_count() == 74
