"""The statistics of the benchmarks."""

from __future__ import annotations

import pytest

from bench.figures import compare, percentile, ratios, typical


def test_percentile_is_one_of_the_values() -> None:
    """The 95th percentile of 1..100 is 95, of a single value that value; none has none."""
    assert percentile(range(100, 0, -1), 95) == 95
    assert percentile([7.0], 95) == 7.0
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_typical_takes_the_median_of_each_figure() -> None:
    """An outlier in one figure of one round moves no median of three rounds."""
    rows = [{"a": 1.0, "b": 5.0}, {"a": 2.0, "b": 6.0}, {"a": 900.0, "b": 7.0}]
    assert typical(rows) == {"a": 2.0, "b": 6.0}


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that slows down threefold between rounds leaves the ratio as it is."""
    assert ratios([2.0, 6.0], [1.0, 3.0]) == {"median": 2.0, "least": 2.0, "most": 2.0}


def test_compare_leaves_out_what_has_no_ratio() -> None:
    """Only figures that both contenders have, and never 0 below, are compared."""
    rounds = [{"x": {"a": 3.0, "b": 1.0, "c": 1.0}, "y": {"a": 1.0, "b": 0.0}}]
    assert set(compare(rounds, "x", "y")) == {"a"}
