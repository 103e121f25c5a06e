"""The search: one switch after another, each kept if it pays and changes the pictures little enough.

Plain Python, no torch: what a variant takes and how far off its pictures are is measured elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from app.catalog.entries import Speed

# A variant must be so much quicker than the best so far: less is noise, and every switch has a price.
WORTHWHILE = 0.03


@dataclass(frozen=True, slots=True)
class Measured:
    """How a variant did: seconds for each picture, and how far its pixels are off, of 255.

    `error` says why it could not be measured.
    """

    picture_s: float = 0.0
    max_off: int = 0
    mean_off: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what was changed, how it did, and what became of it."""

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
    """Try each value of each switch on the best so far; the last `kept` row is the winner.

    The first row is `start`, against whose pictures all are compared; `tolerance` is the most that
    pixels may be off in the mean, of 255.
    """
    best, known = start, measure(start)
    yield Row("as it is", start, known, "kept" if not known.error else "failed")
    if known.error:
        return
    for switch, values in switches.items():
        tried = [replace(best, **{switch: value}) for value in values]
        stage = [(speed, measure(speed)) for speed in tried if speed != best]
        fit = [(s, m) for s, m in stage if not m.error and m.mean_off <= tolerance]
        quickest = min(fit, key=lambda pair: pair[1].picture_s, default=None)
        if quickest and quickest[1].picture_s > known.picture_s * (1 - WORTHWHILE):
            quickest = None
        for speed, measured in stage:
            won = quickest is not None and speed == quickest[0]
            verdict = "kept" if won else _why_not(measured, tolerance)
            yield Row(f"{switch} = {getattr(speed, switch)!r}", speed, measured, verdict)
        if quickest:
            best, known = quickest


def winner(rows: Sequence[Row]) -> Row:
    """Return the best of a finished search."""
    return [row for row in rows if row.verdict == "kept"][-1]


def _why_not(measured: Measured, tolerance: float) -> str:
    if measured.error:
        return "failed"
    return "too far off" if measured.mean_off > tolerance else "not quicker"
