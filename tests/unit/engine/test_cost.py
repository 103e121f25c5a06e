"""Cost: T(rows) as learned, and the cap that follows, to the last branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.cost import FALL, RETRY_AFTER, RISE, Costs

if TYPE_CHECKING:
    from collections.abc import Callable


def taught(table: Callable[[int], float], sizes: list[int], max_rows: int = 8) -> Costs:
    """Give costs that have seen each size once more than the warm-up."""
    costs = Costs(max_rows)
    for rows in sizes:
        for _ in range(2):
            costs.observe("k", rows, table(rows))
    return costs


def test_an_unknown_key_starts_at_max_rows() -> None:
    """What was never seen is taken to gain from every row."""
    assert Costs(8).cap("k") == 8


def test_max_rows_must_leave_room_for_one() -> None:
    """A farm that may stack no row at all is a mistake in its settings."""
    with pytest.raises(ValueError, match="max_rows"):
        Costs(0)


def test_the_first_time_of_each_size_is_left_out() -> None:
    """Warm-up does not count as the cost of a size."""
    costs = Costs(8)
    costs.observe("k", 1, 100.0)
    assert costs.seconds("k", 1) is None
    costs.observe("k", 1, 1.0)
    assert costs.seconds("k", 1) == 1.0


def test_a_time_falls_fast_and_rises_slowly() -> None:
    """A slow outlier moves the estimate less than a fast measurement does."""
    costs = taught(lambda _: 1.0, [1])
    costs.observe("k", 1, 2.0)
    risen = costs.seconds("k", 1)
    assert risen == pytest.approx(1.0 + RISE)
    costs.observe("k", 1, 0.0)
    assert costs.seconds("k", 1) == pytest.approx((1.0 + RISE) * (1 - FALL))


def test_rows_that_keep_paying_are_not_capped() -> None:
    """Where a forward costs the same whatever its rows, the cap stays at max_rows."""
    assert taught(lambda _: 1.0, [1, 2, 4]).cap("k") == 8


def test_the_cap_is_where_more_rows_stop_paying() -> None:
    """With a device that is full at 4 rows, 4 is the cap."""
    assert taught(lambda rows: max(4.0, rows), [1, 2, 4, 8]).cap("k") == 4


def test_a_device_without_any_gain_runs_one_row() -> None:
    """Where time grows with the rows, stacking only delays whoever is first."""
    assert taught(float, [1, 2, 8]).cap("k") == 1


def test_a_gain_too_small_to_notice_does_not_count() -> None:
    """3 rows at 1.02 times the throughput of one are not worth the wait."""
    assert taught(lambda rows: rows / (1.02 if rows == 3 else 1), [1, 3]).cap("k") == 1


def test_keys_learn_apart() -> None:
    """A cap learned for one shape says nothing about another."""
    assert taught(float, [1, 8]).cap("other") == 8


def test_memory_halves_and_never_ends_below_one() -> None:
    """Each refusal halves what was refused; the limit only ever falls, to one row."""
    costs = Costs(16)
    costs.refuse("k", 12)
    assert costs.cap("k") == 6
    costs.refuse("k", 14)
    assert costs.cap("k") == 6
    costs.refuse("k", 1)
    assert costs.cap("k") == 1


def test_memory_bounds_a_cap_that_pays() -> None:
    """The cap is the lesser of what pays and what fits."""
    costs = taught(lambda rows: max(4.0, rows), [1, 4, 8])
    costs.refuse("k", 5)
    assert costs.cap("k") == 2


def test_a_cap_is_tried_anew_after_a_while() -> None:
    """Larger sizes are forgotten after enough forwards at the cap, smaller ones do not count."""
    costs = taught(float, [1, 8])
    for _ in range(RETRY_AFTER - 2):
        costs.observe("k", 1, 1.0)
    assert costs.cap("k") == 1
    costs.observe("k", 1, 1.0)
    assert costs.cap("k") == 8


def test_forwards_below_the_cap_do_not_hurry_the_next_try() -> None:
    """Small groups, run for want of company, say nothing about the cap."""
    costs = taught(lambda rows: max(4.0, rows), [1, 4, 8])
    for _ in range(2 * RETRY_AFTER):
        costs.observe("k", 1, 4.0)
    assert costs.cap("k") == 4


@given(
    seen=st.lists(st.tuples(st.integers(1, 32), st.floats(0, 10)), max_size=60),
    refused=st.lists(st.integers(1, 32), max_size=3),
    max_rows=st.integers(1, 32),
)
def test_the_cap_is_always_a_number_of_rows_that_is_allowed(
    seen: list[tuple[int, float]], refused: list[int], max_rows: int
) -> None:
    """Whatever is measured or refused, the cap is from 1 to max_rows."""
    costs = Costs(max_rows)
    for rows, seconds in seen:
        costs.observe("k", rows, seconds)
    for rows in refused:
        costs.refuse("k", rows)
    assert 1 <= costs.cap("k") <= max_rows
