"""Memory: how many rows fit, and which models to evict (offload). Plain Python, no torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence


class Peaks:
    """The peak bytes of forwards of each key (a module with its shapes), by their rows.

    `free_bytes` is the memory for forwards, without the weights; None means no limit. The engine
    updates it when models move.
    """

    def __init__(self, free_bytes: int | None = None) -> None:
        self.free_bytes = free_bytes
        self._peaks: dict[Hashable, dict[int, int]] = {}

    def known(self, key: Hashable, rows: int) -> bool:
        """Whether a forward of this many rows was measured."""
        return rows in self._peaks.get(key, {})

    def observe(self, key: Hashable, rows: int, peak_bytes: int) -> None:
        """Learn the peak of one forward; the highest peak of each size counts."""
        peaks = self._peaks.setdefault(key, {})
        peaks[rows] = max(peak_bytes, peaks.get(rows, 0))

    def forget(self, key: Hashable) -> None:
        """Forget the peaks of a key."""
        self._peaks.pop(key, None)

    def limit(self, key: Hashable) -> int:
        """Return the most rows of this key that are expected to fit, at least 1."""
        if self.free_bytes is None:
            return sys.maxsize
        return rows_that_fit(self._peaks.get(key, {}), self.free_bytes)


def rows_that_fit(peaks: Mapping[int, int], free_bytes: int) -> int:
    """Return the most rows that fit in `free_bytes`, given the `peaks` of the measured sizes.

    With one measured size, all of its peak is assumed to grow with the rows. With two or more, the
    line through the smallest and the largest separates the fixed part from the part per row.
    Without a measurement the result is 1, so that the first forward of a shape is a small one. The
    result is never below 1: a row that does not fit fails by itself.
    """
    if not peaks:
        return 1
    least, most = min(peaks), max(peaks)
    if least == most:
        row_bytes, fixed_bytes = peaks[most] / most, 0.0
    else:
        row_bytes = max(0.0, (peaks[most] - peaks[least]) / (most - least))
        fixed_bytes = peaks[most] - row_bytes * most
    if row_bytes == 0:
        return sys.maxsize if fixed_bytes <= free_bytes else 1
    return max(1, int((free_bytes - fixed_bytes) // row_bytes))


def to_evict(
    needed_bytes: int, free_bytes: int, idle: Sequence[tuple[str, int]]
) -> list[str] | None:
    """Return the idle models to evict so that another one fits; None if that is not enough.

    `idle` holds names and bytes, the least recently used model first. The list is as short as
    possible in that order.
    """
    evicted: list[str] = []
    for name, size_bytes in idle:
        if free_bytes >= needed_bytes:
            break
        evicted.append(name)
        free_bytes += size_bytes
    return evicted if free_bytes >= needed_bytes else None
