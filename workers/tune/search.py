"""Greedy search over settings: keep each one that is faster and changes the pictures little.

Plain Python, no torch: the caller measures each variant's time and pixel error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from app.catalog.entries import Speed

# A variant must be faster than the best so far by this share. A smaller gain is noise, and every
# setting has a cost.
MIN_GAIN = 0.03


@dataclass(frozen=True, slots=True)
class Measured:
    """A variant's seconds for each picture, and the largest and mean error of its pixels, of 255.

    `error` is the reason if the variant could not be measured.
    """

    picture_s: float = 0.0
    max_off: int = 0
    mean_off: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: the changed setting, its measurement, and the verdict."""

    switch: str
    speed: Speed
    measured: Measured
    verdict: str


def search(
    start: Speed,
    switches: Mapping[str, Sequence[Any]],
    measure: Callable[[Speed], Measured],
    tolerance: float,
) -> Iterator[Row]:
    """Try each value of each setting on top of the best so far; the last `kept` row is the winner.

    The first row is `start`; all pictures are compared with its pictures. `tolerance` is the
    largest mean pixel error, of 255.
    """
    best, known = start, measure(start)
    yield Row("no changes", start, known, "kept" if not known.error else "failed")
    if known.error:
        return
    for switch, values in switches.items():
        tried = [replace(best, **{switch: value}) for value in values]
        trials = [(speed, measure(speed)) for speed in tried if speed != best]
        fit = [(s, m) for s, m in trials if not m.error and m.mean_off <= tolerance]
        fastest = min(fit, key=lambda pair: pair[1].picture_s, default=None)
        if fastest and fastest[1].picture_s > known.picture_s * (1 - MIN_GAIN):
            fastest = None
        for speed, measured in trials:
            won = fastest is not None and speed == fastest[0]
            verdict = "kept" if won else _why_not(measured, tolerance)
            yield Row(f"{switch} = {getattr(speed, switch)!r}", speed, measured, verdict)
        if fastest:
            best, known = fastest


def winner(rows: Sequence[Row]) -> Row:
    """Return the last row that was kept."""
    return [row for row in rows if row.verdict == "kept"][-1]


def _why_not(measured: Measured, tolerance: float) -> str:
    if measured.error:
        return "failed"
    return "too inaccurate" if measured.mean_off > tolerance else "not faster"
