"""Statistics of measurements. Plain Python: numbers in, numbers out."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Figures = dict[str, float]


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the value that `percent` of the values do not exceed (nearest rank: one of them)."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there are no values")
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def typical(rows: Sequence[Mapping[str, float]]) -> Figures:
    """Return the median of each figure over rows that all have the same figures."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def ratios(over: Sequence[float], under: Sequence[float]) -> Figures:
    """Return `over / under`, round by round: the median, the lowest and the highest.

    Both contenders of one round ran within moments of each other, so other load on the machine
    affects both. A ratio of two medians would not have this property.
    """
    each = [a / b for a, b in zip(over, under, strict=True)]
    return {"median": statistics.median(each), "least": min(each), "most": max(each)}


def compare(rounds: Sequence[Mapping[str, Mapping[str, float]]], over: str, under: str) -> dict[
    str, Figures
]:  # fmt: skip
    """Return the ratios of every figure that both contenders have, with no 0 below."""
    shared = rounds[0][over].keys() & rounds[0][under].keys()
    columns = {
        name: ([each[over][name] for each in rounds], [each[under][name] for each in rounds])
        for name in sorted(shared)
    }
    return {name: ratios(a, b) for name, (a, b) in columns.items() if all(b)}
