"""Job ids."""

from __future__ import annotations

from uuid import RFC_4122

from hypothesis import given
from hypothesis import strategies as st

from app.ids import new_id

MILLISECONDS = st.integers(0, 2**48 - 1)


@given(MILLISECONDS)
def test_an_id_is_a_uuid_of_version_7(now_ms: int) -> None:
    """Version and variant are as RFC 9562 wants them, and the first 48 bits are the time."""
    made = new_id(now_ms)
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == now_ms


@given(MILLISECONDS, MILLISECONDS)
def test_a_later_id_is_larger(one: int, other: int) -> None:
    """Ids sort by the millisecond in which they were made."""
    if one < other:
        assert new_id(one) < new_id(other)


def test_ids_of_one_millisecond_differ() -> None:
    """The 74 random bits keep ids apart, and none of them is fixed."""
    made = [new_id(0).int for _ in range(500)]
    assert len(set(made)) == 500
    varying = 0
    for one in made:
        varying |= one ^ made[0]
    assert varying.bit_count() == 74
