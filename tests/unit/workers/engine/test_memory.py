"""Memory: how many rows fit, and which models are evicted."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from workers.engine.cost import Costs
from workers.engine.memory import Peaks, rows_that_fit, to_evict


def test_of_an_unknown_shape_one_row_is_tried_first() -> None:
    """Without a measurement the first forward is the smallest one."""
    assert rows_that_fit({}, 10**12) == 1


def test_one_size_charges_each_row_its_share() -> None:
    """With one measured size all of its peak is assumed to grow with the rows."""
    assert rows_that_fit({2: 100}, 449) == 8
    assert rows_that_fit({2: 100}, 450) == 9


def test_two_sizes_show_the_fixed_part() -> None:
    """With 40 fixed bytes and 10 per row, 1,000 bytes hold 96 rows, not 80 as by one size."""
    assert rows_that_fit({1: 50, 4: 80}, 1000) == 96
    assert rows_that_fit({1: 50, 2: 60, 4: 80}, 1000) == 96


def test_peaks_that_do_not_grow_allow_all_rows_or_one() -> None:
    """If the peak does not grow, any number of rows fits, or only the obligatory first row."""
    assert rows_that_fit({1: 50, 8: 50}, 100) == sys.maxsize
    assert rows_that_fit({1: 50, 8: 40}, 100) == sys.maxsize
    assert rows_that_fit({1: 50, 8: 50}, 40) == 1
    assert rows_that_fit({1: 0}, 0) == sys.maxsize


@given(
    st.dictionaries(st.integers(1, 64), st.integers(1, 10**9), min_size=1),
    st.integers(-(10**9), 10**10),
)
def test_at_least_one_row_always_runs(peaks: dict[int, int], free: int) -> None:
    """The limit is at least 1: a row that does not fit fails by itself instead of waiting."""
    assert rows_that_fit(peaks, free) >= 1


def test_without_a_budget_there_is_no_limit() -> None:
    """Without free bytes, a peak of any size sets no limit."""
    peaks = Peaks()
    peaks.observe("k", 1, 10**15)
    assert peaks.limit("k") == sys.maxsize


def test_the_highest_peak_of_a_size_counts() -> None:
    """A later forward with a lower peak does not raise the limit."""
    peaks = Peaks(100)
    assert not peaks.known("k", 2)
    peaks.observe("k", 2, 40)
    peaks.observe("k", 2, 20)
    assert peaks.known("k", 2)
    assert peaks.limit("k") == 5
    assert peaks.limit("other") == 1


def test_the_lowest_of_all_limits_counts() -> None:
    """Settings, out-of-memory failures and measured peaks each limit a group."""
    costs = Costs(max_rows=8)
    costs.peaks.free_bytes = 1000
    assert costs.limit("k") == 1
    costs.peaks.observe("k", 1, 10)
    assert costs.limit("k") == 8
    costs.peaks.free_bytes = 50
    assert costs.limit("k") == 5
    costs.observe_out_of_memory("k", 4)
    assert costs.limit("k") == 2


def test_the_least_recently_used_models_are_evicted_until_there_is_room() -> None:
    """Eviction stops as soon as the model fits; None means that it never does."""
    idle = [("old", 30), ("mid", 30), ("new", 30)]
    assert to_evict(10, 10, idle) == []
    assert to_evict(10, 5, idle) == ["old"]
    assert to_evict(60, 5, idle) == ["old", "mid"]
    assert to_evict(95, 5, idle) == ["old", "mid", "new"]
    assert to_evict(96, 5, idle) is None
