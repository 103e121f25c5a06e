"""Memory model: how many rows fit, and which models make room. Plain Python, no torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence


class Peaks:
    """The peak bytes of forwards of each key (a module with its shapes), by their rows.

    `free_bytes` is the memory for forwards, next to the weights; None means no limit. Its owner
    changes it when models come and go.
    """

    def __init__(self, free_bytes: int | None = None) -> None:
        self.free_bytes = free_bytes
        self._peaks: dict[Hashable, dict[int, int]] = {}

    def known(self, key: Hashable, rows: int) -> bool:
        """Whether a forward of this many rows was measured."""
        return rows in self._peaks.get(key, {})

    def observe(self, key: Hashable, rows: int, peak_bytes: int) -> None:
        """Learn the memory of one forward; the highest value counts."""
        peaks = self._peaks.setdefault(key, {})
        peaks[rows] = max(peak_bytes, peaks.get(rows, 0))

    def forget(self, key: Hashable) -> None:
        """Drop everything learned of a key."""
        self._peaks.pop(key, None)

    def limit(self, key: Hashable) -> int:
        """Return the largest number of rows of this key that should fit, at least 1."""
        if self.free_bytes is None:
            return sys.maxsize
        return rows_that_fit(self._peaks.get(key, {}), self.free_bytes)


def rows_that_fit(peaks: Mapping[int, int], free_bytes: int) -> int:
    """Return the largest number of rows that fit in this many bytes, by the measured `peaks`.

    With one measured size, each row is charged its share of the total. With two or more, the line
    through the smallest and the largest gives the cost of a further row. With none: 1, so that the
    first forward of a shape is a small one. The result is at least 1; a single row that does not
    fit fails by itself.
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
    """Return which idle models must be moved so that another fits; None if that is not enough.

    `idle` has names and bytes, the least recently used first; no more models move than necessary.
    """
    leave: list[str] = []
    for name, held_bytes in idle:
        if free_bytes >= wanted_bytes:
            break
        leave.append(name)
        free_bytes += held_bytes
    return leave if free_bytes >= wanted_bytes else None
