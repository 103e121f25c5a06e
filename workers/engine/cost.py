"""Cost model: the seconds T(rows) of a forward, learned from measurements. No torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workers.engine.memory import Peaks

if TYPE_CHECKING:
    from collections.abc import Container, Hashable

# Until two sizes are measured, each further row is assumed to cost this share of the first row.
SLOPE = 0.5
# The assumed seconds of a forward of one row before anything is measured.
UNKNOWN_S = 0.05
# A size is forgotten after this many forwards of its key without one of it, and so measured again.
FORGET_AFTER = 400
# Smoothing factors. An estimate falls fast and rises slowly, as disturbances only lengthen times.
FALL, RISE = 0.5, 0.1
# The keys that are remembered, the most recently seen ones. Floats in requests, such as the scales
# of LoRAs, are part of a key, so the number of possible keys has no bound.
MAX_KEYS = 2_000
# After this many forwards with more than half of the rows of a learned memory limit, it is doubled.
RETRY_AFTER = 200

# Time constant of the moving average of the device's utilisation, and its highest value.
UTILISATION_WINDOW_S = 15.0
MAX_UTILISATION = 0.9


class Costs:
    """T(rows) for each key (a module with its shapes), and the number of rows that memory holds.

    The first time of each size is ignored, because it includes allocation, autotuning and lazy
    initialisation. Sizes without a measurement are estimated from their neighbours.
    """

    def __init__(self, max_rows: int) -> None:
        if max_rows < 1:
            raise ValueError("max_rows must be at least 1")
        self.peaks = Peaks()
        self._max_rows = max_rows
        self._times_s: dict[Hashable, dict[int, float | None]] = {}
        self._last_seen: dict[Hashable, dict[int, int]] = {}
        self._limits: dict[Hashable, int] = {}
        self._runs_at_limit: dict[Hashable, int] = {}
        self._utilisation = 0.0
        self._busy_until_s = 0.0

    def observe(self, key: Hashable, rows: int, seconds: float) -> None:
        """Learn the seconds of one forward of `rows` rows."""
        times = self._times_s[key] = self._times_s.pop(key, {})  # moves the key to the end
        if rows not in times:
            times[rows] = None
        elif (known := times[rows]) is None:
            times[rows] = seconds
        else:
            times[rows] = known + (FALL if seconds < known else RISE) * (seconds - known)
        self._forget_old_sizes(key, rows)
        self._raise_limit(key, rows)

    def observe_busy(self, from_s: float, to_s: float) -> None:
        """Learn that the device was busy in this interval, and idle between the last one and it."""
        self._utilisation *= math.exp((self._busy_until_s - from_s) / UTILISATION_WINDOW_S)
        idle_share = (1 - self._utilisation) * math.exp((from_s - to_s) / UTILISATION_WINDOW_S)
        self._utilisation = 1 - idle_share
        self._busy_until_s = to_s

    @property
    def pressure(self) -> float:
        """Return the expected arrivals per present job: u / (1 - u), as in an M/M/1 queue."""
        return self._utilisation / (1 - min(self._utilisation, MAX_UTILISATION))

    def observe_out_of_memory(self, key: Hashable, rows: int) -> None:
        """Learn that `rows` rows do not fit in memory: limit the key to at most half of them."""
        self._runs_at_limit[key] = 0
        self._limits[key] = max(1, min(rows // 2, self.limit(key)))
        self._times_s.setdefault(key, {})
        self._trim()

    def limit(self, key: Hashable) -> int:
        """Return the most rows that are allowed, and that fit in memory as far as is known."""
        return min(self._limits.get(key, self._max_rows), self.peaks.limit(key))

    def has_run(self, key: Hashable, sizes: Container[int]) -> bool:
        """Whether a forward of one of these sizes has run before."""
        return any(rows in sizes for rows in self._times_s.get(key, {}))

    def measured(self, key: Hashable) -> dict[int, float]:
        """Return the seconds of the measured sizes, by their rows in ascending order."""
        times = self._times_s.get(key, {})
        return {rows: time for rows, time in sorted(times.items()) if time is not None}

    def seconds(self, key: Hashable, rows: int) -> float:
        """Return T(rows): measured, or estimated from the nearest measured sizes."""
        known = self._times_s.get(key, {}).get(rows)
        if known is not None:
            return known
        times = self.measured(key)
        below = max((size for size in times if size < rows), default=None)
        above = min((size for size in times if size > rows), default=None)
        if below is None and above is None:
            return UNKNOWN_S * _relative_cost(rows)
        if below is None or above is None:
            return self._extrapolate(times, rows)
        share = (rows - below) / (above - below)
        return times[below] + share * (times[above] - times[below])

    def _extrapolate(self, times: dict[int, float], rows: int) -> float:
        """Estimate beyond the measured sizes, by their own slope if there are two or more."""
        first, last = min(times), max(times)
        if rows < first or first == last:
            nearest = first if rows < first else last
            return times[nearest] * _relative_cost(rows) / _relative_cost(nearest)
        slope = max(0.0, times[last] - times[first]) / (last - first)
        return min(times[last] + slope * (rows - last), times[last] * rows / last)

    def _forget_old_sizes(self, key: Hashable, rows: int) -> None:
        last_seen = self._last_seen.setdefault(key, {})
        now = last_seen[rows] = max(last_seen.values(), default=0) + 1
        for size in [size for size, last in last_seen.items() if now - last > FORGET_AFTER]:
            del last_seen[size], self._times_s[key][size]
        self._trim()

    def _trim(self) -> None:
        if len(self._times_s) > MAX_KEYS:
            oldest = next(iter(self._times_s))
            for table in (self._times_s, self._last_seen, self._limits, self._runs_at_limit):
                table.pop(oldest, None)
            self.peaks.forget(oldest)

    def _raise_limit(self, key: Hashable, rows: int) -> None:
        """Double a learned limit from time to time: other programs may have held the memory."""
        limit = self._limits.get(key)
        if limit is None or 2 * rows <= limit:
            return  # groups hold whole jobs, so few of them have exactly the limit's rows
        self._runs_at_limit[key] += 1
        if self._runs_at_limit[key] >= RETRY_AFTER:
            self._runs_at_limit[key] = 0
            self._limits[key] = min(2 * limit, self._max_rows)


def _relative_cost(rows: int) -> float:
    return 1 + SLOPE * (rows - 1)
