"""Cost: T(rows) as learned and estimated, to the last branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.cost import (
    FALL,
    FORGET_AFTER,
    MAX_KEYS,
    MAX_UTILISATION,
    RETRY_AFTER,
    RISE,
    SLOPE,
    UNKNOWN_S,
    UTILISATION_WINDOW_S,
    Costs,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def taught(table: Callable[[int], float], sizes: list[int], max_rows: int = 8) -> Costs:
    """Give costs that have seen each size once more than its first time."""
    costs = Costs(max_rows)
    for rows in sizes:
        for _ in range(2):
            costs.observe("k", rows, table(rows))
    return costs


def test_max_rows_must_leave_room_for_one() -> None:
    """A farm that may stack no row at all is a mistake in its settings."""
    with pytest.raises(ValueError, match="max_rows"):
        Costs(0)


def test_of_an_unknown_key_each_row_is_taken_to_cost_half_of_the_first() -> None:
    """Nothing is known, so something between all gain and none is assumed."""
    assert Costs(8).seconds("k", 1) == UNKNOWN_S
    assert Costs(8).seconds("k", 3) == UNKNOWN_S * (1 + 2 * SLOPE)


def test_the_first_time_of_each_size_is_left_out() -> None:
    """Warm-up does not count as the cost of a size."""
    costs = Costs(8)
    costs.observe("k", 1, 100.0)
    assert costs.measured("k") == {}
    costs.observe("k", 1, 1.0)
    assert costs.measured("k") == {1: 1.0}


def test_a_time_falls_fast_and_rises_slowly() -> None:
    """A slow outlier moves the estimate less than a fast measurement does."""
    costs = taught(lambda _: 1.0, [1])
    costs.observe("k", 1, 2.0)
    assert costs.seconds("k", 1) == pytest.approx(1.0 + RISE)
    costs.observe("k", 1, 0.0)
    assert costs.seconds("k", 1) == pytest.approx((1.0 + RISE) * (1 - FALL))


def test_between_two_sizes_time_is_linear() -> None:
    """A size that was not seen lies between its neighbours."""
    assert taught(float, [2, 6]).seconds("k", 3) == pytest.approx(3.0)


def test_beyond_one_size_the_usual_slope_holds() -> None:
    """From a single size both ways: each row more costs half of the first."""
    costs = taught(lambda _: 3.0, [5])
    assert costs.seconds("k", 1) == pytest.approx(1.0)
    assert costs.seconds("k", 9) == pytest.approx(5.0)


def test_beyond_several_sizes_their_own_slope_holds() -> None:
    """What was seen goes on, but no row is ever taken to cost more than those seen."""
    assert taught(lambda rows: 10 + rows, [2, 4]).seconds("k", 8) == pytest.approx(18.0)
    assert taught(lambda rows: rows**2, [2, 4]).seconds("k", 8) == pytest.approx(32.0)
    assert taught(lambda rows: 8 / rows, [2, 4]).seconds("k", 8) == pytest.approx(2.0)


def test_keys_learn_apart() -> None:
    """What was learned of one shape says nothing about another."""
    assert taught(float, [1, 8]).seconds("other", 1) == UNKNOWN_S


def test_memory_halves_and_never_ends_below_one() -> None:
    """Each refusal halves what was refused, down to one row."""
    costs = Costs(16)
    costs.observe_out_of_memory("k", 12)
    assert costs.limit("k") == 6
    costs.observe_out_of_memory("k", 14)
    assert costs.limit("k") == 6
    costs.observe_out_of_memory("k", 1)
    assert costs.limit("k") == 1
    assert costs.limit("other") == 16


def test_what_did_not_fit_is_tried_again_after_a_while() -> None:
    """Others may have held the memory: as many rows as fit, so many times, and twice as many may."""
    costs = Costs(max_rows=16)
    costs.observe_out_of_memory("k", 16)
    for _ in range(RETRY_AFTER):
        assert costs.limit("k") == 8
        costs.observe("k", 4, 1.0)  # fewer rows say nothing
        costs.observe("k", 8, 1.0)
    assert costs.limit("k") == 16
    costs.observe_out_of_memory("k", 16)
    assert costs.limit("k") == 8


def test_a_limit_that_no_group_meets_is_raised_too() -> None:
    """Of three rows that fit, pairs of guided rows take two: they count."""
    costs = Costs(max_rows=16)
    costs.observe_out_of_memory("k", 6)
    for _ in range(RETRY_AFTER):
        costs.observe("k", 2, 1.0)
    assert costs.limit("k") == 6


def test_keys_that_only_ever_failed_are_forgotten_too() -> None:
    """A picture that is too large, with another scale each time, leaves no more behind."""
    costs = Costs(max_rows=16)
    for number in range(MAX_KEYS + 5):
        costs.observe_out_of_memory(number, 2)
    assert len(costs._limits) == len(costs._runs_at_limit) == MAX_KEYS


def test_keys_that_were_not_seen_for_long_are_forgotten() -> None:
    """However many keys come, so many are known: those seen last."""
    costs = Costs(max_rows=16)
    costs.peaks.free_bytes = 100
    for number in range(MAX_KEYS + 5):
        costs.observe("often", 1, 1.0)
        costs.observe(number, 1, 1.0)
        costs.observe(number, 1, 1.0)
        costs.observe_out_of_memory(number, 2)
        costs.peaks.observe(number, 1, 10)
    assert costs.measured("often")
    assert costs.measured(MAX_KEYS + 4)
    assert not costs.measured(0)
    assert 0 not in costs._limits
    assert not costs.peaks.known(0, 1)
    for table in (costs._times_s, costs._last_seen, costs._limits, costs._runs_at_limit):
        assert len(table) <= MAX_KEYS


def test_a_size_that_is_not_seen_again_is_forgotten() -> None:
    """One bad measurement does not rule a size out for ever."""
    costs = taught(lambda rows: 100.0 if rows == 8 else 1.0, [8, 1])
    for _ in range(FORGET_AFTER - 2):
        costs.observe("k", 1, 1.0)
    assert set(costs.measured("k")) == {1, 8}
    costs.observe("k", 1, 1.0)
    assert set(costs.measured("k")) == {1}


def test_pressure_grows_while_the_device_is_busy_and_falls_while_it_is_not() -> None:
    """An idle device expects nobody; one that never rests expects a queue, within bounds."""
    costs = Costs(8)
    assert costs.pressure == 0
    costs.observe_busy(0.0, UTILISATION_WINDOW_S)
    busy = costs.pressure
    assert busy == pytest.approx((1 - 1 / 2.718281828) / (1 / 2.718281828))
    costs.observe_busy(3 * UTILISATION_WINDOW_S, 3 * UTILISATION_WINDOW_S)
    assert 0 < costs.pressure < busy / 4
    costs.observe_busy(3 * UTILISATION_WINDOW_S, 99 * UTILISATION_WINDOW_S)
    assert costs.pressure == pytest.approx(1 / (1 - MAX_UTILISATION))


@given(
    seen=st.lists(st.tuples(st.integers(1, 32), st.floats(0, 10)), max_size=60),
    refused=st.lists(st.integers(1, 32), max_size=3),
    max_rows=st.integers(1, 32),
)
def test_there_is_always_a_limit_and_a_time(
    seen: list[tuple[int, float]], refused: list[int], max_rows: int
) -> None:
    """Whatever is measured or refused, every size has a time and at least one row fits."""
    costs = Costs(max_rows)
    for rows, seconds in seen:
        costs.observe("k", rows, seconds)
    for rows in refused:
        costs.observe_out_of_memory("k", rows)
    assert 1 <= costs.limit("k") <= max_rows
    assert all(costs.seconds("k", rows) >= 0 for rows in range(1, 40))
