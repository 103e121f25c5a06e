"""Statistics of what was measured. Plain Python: numbers in, numbers out."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Figures = dict[str, float]


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed (nearest rank: always one of them)."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there are no values")
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def typical(rows: Sequence[Mapping[str, float]]) -> Figures:
    """The median of each figure over rows that all have the same figures."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def ratios(over: Sequence[float], under: Sequence[float]) -> Figures:
    """`over / under`, round by round: its median, and the least and the most that was seen.

    Both contenders of one round ran within moments of each other, so what else the machine did
    weighs on both; a ratio of two medians would not have that.
    """
    each = [a / b for a, b in zip(over, under, strict=True)]
    return {"median": statistics.median(each), "least": min(each), "most": max(each)}


def compare(rounds: Sequence[Mapping[str, Mapping[str, float]]], over: str, under: str) -> dict[
    str, Figures
]:  # fmt: skip
    """Ratios of every figure that both contenders have in all rounds and that is never 0 below."""
    shared = rounds[0][over].keys() & rounds[0][under].keys()
    columns = {
        name: ([each[over][name] for each in rounds], [each[under][name] for each in rounds])
        for name in sorted(shared)
    }
    return {name: ratios(a, b) for name, (a, b) in columns.items() if all(b)}
