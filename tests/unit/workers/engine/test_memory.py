"""Memory: how many rows fit, and who makes room, to the last branch."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from workers.engine.cost import Costs
from workers.engine.memory import Peaks, rows_that_fit, to_evict


def test_of_an_unknown_shape_one_row_is_tried_first() -> None:
    """Nothing measured, nothing risked."""
    assert rows_that_fit({}, 10**12) == 1


def test_one_size_charges_each_row_its_share() -> None:
    """What is fixed cannot be told from what grows, so all of it is taken to grow."""
    assert rows_that_fit({2: 100}, 449) == 8
    assert rows_that_fit({2: 100}, 450) == 9


def test_two_sizes_tell_what_is_fixed() -> None:
    """40 bytes fixed and 10 a row: 1,000 bytes hold 96 rows, not the 80 or fewer of one size."""
    assert rows_that_fit({1: 50, 4: 80}, 1000) == 96
    assert rows_that_fit({1: 50, 2: 60, 4: 80}, 1000) == 96


def test_rows_that_add_nothing_are_bounded_by_nothing_unless_one_is_too_much() -> None:
    """A peak that does not grow fits for any number of rows, or for none beside the first."""
    assert rows_that_fit({1: 50, 8: 50}, 100) == sys.maxsize
    assert rows_that_fit({1: 50, 8: 40}, 100) == sys.maxsize
    assert rows_that_fit({1: 50, 8: 50}, 40) == 1
    assert rows_that_fit({1: 0}, 0) == sys.maxsize


@given(
    st.dictionaries(st.integers(1, 64), st.integers(1, 10**9), min_size=1),
    st.integers(-(10**9), 10**10),
)
def test_at_least_one_row_always_runs(peaks: dict[int, int], free: int) -> None:
    """What does not fit alone finds that out by itself; nobody waits for ever."""
    assert rows_that_fit(peaks, free) >= 1


def test_without_a_budget_nothing_is_bounded() -> None:
    """Then `max_rows` and what was refused alone count."""
    peaks = Peaks()
    peaks.observe("k", 1, 10**15)
    assert peaks.limit("k") == sys.maxsize


def test_the_most_that_a_size_ever_took_counts() -> None:
    """A later, luckier forward does not raise the limit."""
    peaks = Peaks(100)
    assert not peaks.known("k", 2)
    peaks.observe("k", 2, 40)
    peaks.observe("k", 2, 20)
    assert peaks.known("k", 2)
    assert peaks.limit("k") == 5
    assert peaks.limit("other") == 1


def test_costs_cap_the_rows_by_the_least_of_all_limits() -> None:
    """Settings, refusals and measured memory each bound a group."""
    costs = Costs(max_rows=8)
    costs.peaks.free_bytes = 1000
    assert costs.limit("k") == 1
    costs.peaks.observe("k", 1, 10)
    assert costs.limit("k") == 8
    costs.peaks.free_bytes = 50
    assert costs.limit("k") == 5
    costs.observe_out_of_memory("k", 4)
    assert costs.limit("k") == 2


def test_the_least_recently_used_go_and_no_more_than_must() -> None:
    """Eviction stops as soon as there is room."""
    idle = [("old", 30), ("mid", 30), ("new", 30)]
    assert to_evict(10, 10, idle) == []
    assert to_evict(10, 5, idle) == ["old"]
    assert to_evict(60, 5, idle) == ["old", "mid"]
    assert to_evict(95, 5, idle) == ["old", "mid", "new"]
    assert to_evict(96, 5, idle) is None
