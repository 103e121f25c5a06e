"""Clock skew: programs whose wall clock is wrong, as on a machine without NTP.

`python -m tests.chaos.clock ROLE` runs a role of the farm with a clock that is wrong by
`CHAOS_CLOCK_S` seconds. It shifts Python's `time` and `datetime`. The monotonic clock and the
clocks of the servers stay right.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import time

VARIABLE = "CHAOS_CLOCK_S"


def shift() -> None:
    """Shift this process's wall clock. Call it before any module of the farm is imported."""
    by_s = int(os.environ.get(VARIABLE, "0"))
    if not by_s:
        return
    true_time, true_time_ns = time.time, time.time_ns
    time.time = lambda: true_time() + by_s
    time.time_ns = lambda: true_time_ns() + by_s * 10**9
    delta, true = dt.timedelta(seconds=by_s), dt.datetime

    class Shifted(true):  # type: ignore[misc,valid-type]
        """A `datetime` whose `now` reads the wrong clock."""

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            """The time on the wrong clock."""
            return true.now(tz) + delta

    dt.datetime = Shifted  # type: ignore[misc]
    sys.stdout.write(f"clock shifted by {by_s} s\n")
    sys.stdout.flush()


if __name__ == "__main__":
    shift()
    from app.cli import main

    main()
