"""Cost: the seconds T(rows) of a forward, learned from what is seen. Plain Python, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

# More rows must make each row at least this much cheaper. Else a smaller group is as good for
# throughput and better for whoever is first.
WORTHWHILE = 0.10
# After so many forwards at the cap, larger sizes are forgotten and so tried anew.
RETRY_AFTER = 200
# A time falls fast and rises slowly: what disturbs a measurement makes it longer, never shorter.
FALL, RISE = 0.5, 0.1


class Costs:
    """T(rows) for each key (a module with its shapes), and the cap that follows.

    A size not seen yet counts as worthwhile, so a key starts at `max_rows` and the cap comes down
    to the smallest size that is level with the best. Each size's first time is left out: it holds
    allocation, autotuning and lazy initialisation.
    """

    def __init__(self, max_rows: int) -> None:
        if max_rows < 1:
            raise ValueError("max_rows must be at least 1")
        self._max_rows = max_rows
        self._times_s: dict[Hashable, dict[int, float | None]] = {}
        self._limits: dict[Hashable, int] = {}
        self._at_cap: dict[Hashable, int] = {}

    def observe(self, key: Hashable, rows: int, seconds: float) -> None:
        """Learn that one forward of `rows` rows took so long."""
        times = self._times_s.setdefault(key, {})
        if rows not in times:
            times[rows] = None
            return
        known = times[rows]
        if known is None:
            times[rows] = seconds
        else:
            times[rows] = known + (FALL if seconds < known else RISE) * (seconds - known)
        self._forget(key, rows)

    def refuse(self, key: Hashable, rows: int) -> None:
        """Learn that memory does not hold `rows` rows: from now on, at most half of them."""
        self._limits[key] = max(1, min(rows // 2, self.limit(key)))

    def limit(self, key: Hashable) -> int:
        """Return the most rows that memory is known or assumed to hold."""
        return self._limits.get(key, self._max_rows)

    def seconds(self, key: Hashable, rows: int) -> float | None:
        """Return T(rows) as last learned; None when that size has not been measured."""
        return self._times_s.get(key, {}).get(rows)

    def cap(self, key: Hashable) -> int:
        """Return the most rows worth stacking."""
        worth = self._worthwhile(key)
        return self.limit(key) if worth is None else min(worth, self.limit(key))

    def _worthwhile(self, key: Hashable) -> int | None:
        """Return the size from which more rows were seen to stop paying; None if none was."""
        per_row = {
            rows: seconds / rows
            for rows, seconds in self._times_s.get(key, {}).items()
            if seconds is not None
        }
        if len(per_row) < 2:
            return None
        best = min(per_row.values())
        size = min(rows for rows, cost in per_row.items() if cost * (1 - WORTHWHILE) <= best)
        return None if size == max(per_row) else size

    def _forget(self, key: Hashable, rows: int) -> None:
        """Count forwards at a learned cap; in the end drop what was seen above it."""
        cap = self._worthwhile(key)
        if cap is None or rows < cap:
            return
        self._at_cap[key] = self._at_cap.get(key, 0) + 1
        if self._at_cap[key] >= RETRY_AFTER:
            del self._at_cap[key]
            times = self._times_s[key]
            self._times_s[key] = {size: time for size, time in times.items() if size <= cap}
