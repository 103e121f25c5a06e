"""Cost model: T(rows), learned and estimated, and the limits of rows."""

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


def measured(table: Callable[[int], float], sizes: list[int], max_rows: int = 8) -> Costs:
    """Return costs with two forwards of each size: the first one is ignored."""
    costs = Costs(max_rows)
    for rows in sizes:
        for _ in range(2):
            costs.observe("k", rows, table(rows))
    return costs


def test_max_rows_must_be_at_least_one() -> None:
    """Settings that allow no row at all are failed."""
    with pytest.raises(ValueError, match="max_rows"):
        Costs(0)


def test_each_further_row_of_an_unknown_key_costs_half_of_the_first() -> None:
    """Without a measurement the estimate is between full gain and no gain."""
    assert Costs(8).seconds("k", 1) == UNKNOWN_S
    assert Costs(8).seconds("k", 3) == UNKNOWN_S * (1 + 2 * SLOPE)


def test_the_first_time_of_each_size_is_ignored() -> None:
    """The first time of a size includes warm-up, so it is not its cost."""
    costs = Costs(8)
    costs.observe("k", 1, 100.0)
    assert costs.measured("k") == {}
    costs.observe("k", 1, 1.0)
    assert costs.measured("k") == {1: 1.0}


def test_an_estimate_falls_fast_and_rises_slowly() -> None:
    """A slow outlier moves the estimate less than a fast measurement."""
    costs = measured(lambda _: 1.0, [1])
    costs.observe("k", 1, 2.0)
    assert costs.seconds("k", 1) == pytest.approx(1.0 + RISE)
    costs.observe("k", 1, 0.0)
    assert costs.seconds("k", 1) == pytest.approx((1.0 + RISE) * (1 - FALL))


def test_between_two_sizes_time_is_linear() -> None:
    """An unmeasured size is interpolated from its neighbours."""
    assert measured(float, [2, 6]).seconds("k", 3) == pytest.approx(3.0)


def test_from_one_size_the_default_slope_holds() -> None:
    """From a single size in both directions each further row costs half of the first."""
    costs = measured(lambda _: 3.0, [5])
    assert costs.seconds("k", 1) == pytest.approx(1.0)
    assert costs.seconds("k", 9) == pytest.approx(5.0)


def test_beyond_several_sizes_their_own_slope_holds() -> None:
    """The measured slope continues, but no row costs more than the measured mean of a row."""
    assert measured(lambda rows: 10 + rows, [2, 4]).seconds("k", 8) == pytest.approx(18.0)
    assert measured(lambda rows: rows**2, [2, 4]).seconds("k", 8) == pytest.approx(32.0)
    assert measured(lambda rows: 8 / rows, [2, 4]).seconds("k", 8) == pytest.approx(2.0)


def test_keys_learn_separately() -> None:
    """Measurements of one shape do not change the estimates of another."""
    assert measured(float, [1, 8]).seconds("other", 1) == UNKNOWN_S


def test_out_of_memory_halves_the_limit_down_to_one() -> None:
    """Each failure limits the key to half of the failed rows, and at least to one."""
    costs = Costs(16)
    costs.observe_out_of_memory("k", 12)
    assert costs.limit("k") == 6
    costs.observe_out_of_memory("k", 14)
    assert costs.limit("k") == 6
    costs.observe_out_of_memory("k", 1)
    assert costs.limit("k") == 1
    assert costs.limit("other") == 16


def test_a_limit_is_doubled_after_many_forwards_at_it() -> None:
    """Other programs may have held the memory, so RETRY_AFTER forwards at the limit double it."""
    costs = Costs(max_rows=16)
    costs.observe_out_of_memory("k", 16)
    for _ in range(RETRY_AFTER):
        assert costs.limit("k") == 8
        costs.observe("k", 4, 1.0)  # forwards of few rows do not count
        costs.observe("k", 8, 1.0)
    assert costs.limit("k") == 16
    costs.observe_out_of_memory("k", 16)
    assert costs.limit("k") == 8


def test_a_limit_between_group_sizes_is_raised_too() -> None:
    """Guided jobs have two rows: with a limit of three, their forwards of two rows count."""
    costs = Costs(max_rows=16)
    costs.observe_out_of_memory("k", 6)
    for _ in range(RETRY_AFTER):
        costs.observe("k", 2, 1.0)
    assert costs.limit("k") == 6


def test_keys_that_only_failed_are_forgotten_too() -> None:
    """Keys that only ran out of memory do not exceed MAX_KEYS either."""
    costs = Costs(max_rows=16)
    for number in range(MAX_KEYS + 5):
        costs.observe_out_of_memory(number, 2)
    assert len(costs._limits) == len(costs._runs_at_limit) == MAX_KEYS


def test_the_least_recently_seen_keys_are_forgotten() -> None:
    """At most MAX_KEYS keys are known, the most recently seen ones, in every table."""
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


def test_a_size_without_new_forwards_is_forgotten() -> None:
    """One bad measurement does not exclude a size permanently."""
    costs = measured(lambda rows: 100.0 if rows == 8 else 1.0, [8, 1])
    for _ in range(FORGET_AFTER - 2):
        costs.observe("k", 1, 1.0)
    assert set(costs.measured("k")) == {1, 8}
    costs.observe("k", 1, 1.0)
    assert set(costs.measured("k")) == {1}


def test_sizes_that_have_run_are_known() -> None:
    """One forward is enough, although its time is ignored; other sizes and keys have not run."""
    costs = Costs(8)
    assert not costs.has_run("k", range(1, 9))
    costs.observe("k", 3, 1.0)
    assert costs.has_run("k", range(3, 5))
    assert not costs.has_run("k", range(4, 9))
    assert not costs.has_run("other", range(1, 9))


def test_pressure_follows_the_device_utilisation() -> None:
    """An idle device expects no arrivals; a busy one expects a queue, up to a bound."""
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
    measurements=st.lists(st.tuples(st.integers(1, 32), st.floats(0, 10)), max_size=60),
    failed=st.lists(st.integers(1, 32), max_size=3),
    max_rows=st.integers(1, 32),
)
def test_there_is_always_a_limit_and_a_time(
    measurements: list[tuple[int, float]], failed: list[int], max_rows: int
) -> None:
    """After any measurements and failures, every size has a time and one row is allowed."""
    costs = Costs(max_rows)
    for rows, seconds in measurements:
        costs.observe("k", rows, seconds)
    for rows in failed:
        costs.observe_out_of_memory("k", rows)
    assert 1 <= costs.limit("k") <= max_rows
    assert all(costs.seconds("k", rows) >= 0 for rows in range(1, 40))
