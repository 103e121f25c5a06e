"""Cost model: T(rows), the seconds of a forward, learned by measuring. Plain Python, no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workers.engine.memory import Peaks

if TYPE_CHECKING:
    from collections.abc import Container, Hashable

# With only one size measured, each further row is assumed to cost this share of the first one.
SLOPE = 0.5
# The assumed seconds of a forward of which nothing is known.
UNKNOWN_S = 0.05
# A time that was not measured again in this many forwards is dropped, so that its size is tried
# again.
FORGET_AFTER = 400
# A time falls fast and rises slowly: a disturbance makes a measurement longer, never shorter.
FALL, RISE = 0.5, 0.1
# This many keys are kept, the most recently used. Floats in requests, such as the scales of LoRAs,
# are part of a key, so the number of keys has no natural limit.
KEYS = 2_000
# After this many forwards at the known limit of memory, twice as many rows are tried again.
RETRY_AFTER = 200

# The device's share of busy time is measured over this many seconds, and counts at most this much.
BUSY_S = 15.0
BUSIEST = 0.9


class Costs:
    """T(rows) for each key (a module with its shapes), and the number of rows that fit in memory.

    The first time of each size is ignored: it includes allocation, autotuning and lazy
    initialisation. Sizes without a measurement are estimated from their neighbours.
    """

    def __init__(self, max_rows: int) -> None:
        if max_rows < 1:
            raise ValueError("max_rows must be at least 1")
        self.peaks = Peaks()
        self._max_rows = max_rows
        self._times_s: dict[Hashable, dict[int, float | None]] = {}
        self._seen: dict[Hashable, dict[int, int]] = {}
        self._limits: dict[Hashable, int] = {}
        self._at_limit: dict[Hashable, int] = {}
        self._busy = 0.0
        self._busy_until_s = 0.0

    def observe(self, key: Hashable, rows: int, seconds: float) -> None:
        """Learn how long one forward of `rows` rows took."""
        times = self._times_s[key] = self._times_s.pop(
            key, {}
        )  # makes it the most recently used key
        if rows not in times:
            times[rows] = None
        elif (known := times[rows]) is None:
            times[rows] = seconds
        else:
            times[rows] = known + (FALL if seconds < known else RISE) * (seconds - known)
        self._forget(key, rows)
        self._raise_limit(key, rows)

    def ran(self, from_s: float, to_s: float) -> None:
        """Learn that the device was busy for this time, and idle since the last forward."""
        self._busy *= math.exp((self._busy_until_s - from_s) / BUSY_S)
        self._busy = 1 - (1 - self._busy) * math.exp((from_s - to_s) / BUSY_S)
        self._busy_until_s = to_s

    @property
    def pressure(self) -> float:
        """Return how many further jobs to expect per present job, as in a queue at this load."""
        return self._busy / (1 - min(self._busy, BUSIEST))

    def refuse(self, key: Hashable, rows: int) -> None:
        """Learn that `rows` rows do not fit in memory: for a while, use at most half of them."""
        self._at_limit[key] = 0
        self._limits[key] = max(1, min(rows // 2, self.limit(key)))
        self._times_s.setdefault(key, {})
        self._trim()

    def limit(self, key: Hashable) -> int:
        """Return the largest number of rows that is known, measured or assumed to fit."""
        return min(self._limits.get(key, self._max_rows), self.peaks.limit(key))

    def seen(self, key: Hashable, sizes: Container[int]) -> bool:
        """Whether a forward of one of these sizes has run before."""
        return any(rows in sizes for rows in self._times_s.get(key, {}))

    def measured(self, key: Hashable) -> dict[int, float]:
        """Return the measured sizes with their seconds."""
        times = self._times_s.get(key, {})
        return {rows: time for rows, time in sorted(times.items()) if time is not None}

    def seconds(self, key: Hashable, rows: int) -> float:
        """Return T(rows): the last measurement, or an estimate from the neighbouring sizes."""
        known = self._times_s.get(key, {}).get(rows)
        if known is not None:
            return known
        times = self.measured(key)
        below = max((size for size in times if size < rows), default=None)
        above = min((size for size in times if size > rows), default=None)
        if below is None and above is None:
            return UNKNOWN_S * _line(rows)
        if below is None or above is None:
            return self._beyond(times, rows)
        share = (rows - below) / (above - below)
        return times[below] + share * (times[above] - times[below])

    def _beyond(self, times: dict[int, float], rows: int) -> float:
        """Extrapolate past the measured sizes: by their slope, or else by the default slope."""
        first, last = min(times), max(times)
        if rows < first or first == last:
            nearest = first if rows < first else last
            return times[nearest] * _line(rows) / _line(nearest)
        slope = max(0.0, times[last] - times[first]) / (last - first)
        return min(times[last] + slope * (rows - last), times[last] * rows / last)

    def _forget(self, key: Hashable, rows: int) -> None:
        seen = self._seen.setdefault(key, {})
        now = seen[rows] = max(seen.values(), default=0) + 1
        for size in [size for size, last in seen.items() if now - last > FORGET_AFTER]:
            del seen[size], self._times_s[key][size]
        self._trim()

    def _trim(self) -> None:
        if len(self._times_s) > KEYS:
            oldest = next(iter(self._times_s))
            for table in (self._times_s, self._seen, self._limits, self._at_limit):
                table.pop(oldest, None)
            self.peaks.forget(oldest)

    def _raise_limit(self, key: Hashable, rows: int) -> None:
        """Allow more rows again: other jobs may have held the memory at the time."""
        limit = self._limits.get(key)
        if limit is None or 2 * rows <= limit:
            return  # groups consist of whole jobs, so few of them have exactly this many rows
        self._at_limit[key] += 1
        if self._at_limit[key] >= RETRY_AFTER:
            self._at_limit[key] = 0
            self._limits[key] = min(2 * limit, self._max_rows)


def _line(rows: int) -> float:
    return 1 + SLOPE * (rows - 1)
