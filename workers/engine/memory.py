"""Memory: how many rows fit, and which models make room. Plain Python, no torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence


class Peaks:
    """The most bytes that forwards of each key (a module with its shapes) took, by their rows.

    `free_bytes` are what there is for them, beside the weights; None bounds nothing. Its owner
    changes it when models come and go.
    """

    def __init__(self, free_bytes: int | None = None) -> None:
        self.free_bytes = free_bytes
        self._peaks: dict[Hashable, dict[int, int]] = {}

    def known(self, key: Hashable, rows: int) -> bool:
        """Whether a forward of so many rows was measured."""
        return rows in self._peaks.get(key, {})

    def observe(self, key: Hashable, rows: int, peak_bytes: int) -> None:
        """Learn what one forward took; the most that it ever took counts."""
        peaks = self._peaks.setdefault(key, {})
        peaks[rows] = max(peak_bytes, peaks.get(rows, 0))

    def forget(self, key: Hashable) -> None:
        """Forget what was learned of a key."""
        self._peaks.pop(key, None)

    def limit(self, key: Hashable) -> int:
        """Return the most rows of this key that are expected to fit, at least 1."""
        if self.free_bytes is None:
            return sys.maxsize
        return rows_that_fit(self._peaks.get(key, {}), self.free_bytes)


def rows_that_fit(peaks: Mapping[int, int], free_bytes: int) -> int:
    """Return the most rows that fit in so many bytes, by the `peaks` of the sizes seen.

    Of one size alone each row is charged its share of all; of two and more, the line through the
    smallest and the largest tells what each row adds. Nothing known: 1, so that the first forward
    of a shape is a small one. Never under 1: what does not fit alone finds that out by itself.
    """
    if not peaks:
        return 1
    least, most = min(peaks), max(peaks)
    if least == most:
        each, fixed = peaks[most] / most, 0.0
    else:
        each = max(0.0, (peaks[most] - peaks[least]) / (most - least))
        fixed = peaks[most] - each * most
    if each == 0:
        return sys.maxsize if fixed <= free_bytes else 1
    return max(1, int((free_bytes - fixed) // each))


def to_evict(
    wanted_bytes: int, free_bytes: int, idle: Sequence[tuple[str, int]]
) -> list[str] | None:
    """Return which idle models must go for another to fit; None if that is not enough.

    `idle` are names and bytes, the least recently used first; no more of them go than must.
    """
    leave: list[str] = []
    for name, held_bytes in idle:
        if free_bytes >= wanted_bytes:
            break
        leave.append(name)
        free_bytes += held_bytes
    return leave if free_bytes >= wanted_bytes else None
