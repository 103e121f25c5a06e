"""Processes whose wall clock is wrong by `CHAOS_CLOCK_S` seconds, as a machine without NTP is."""

from __future__ import annotations

import os
import time


def shift() -> None:
    """Shift this process's wall clock; the monotonic one goes on as it was."""
    by_s = int(os.environ.get("CHAOS_CLOCK_S", "0"))
    if not by_s:
        return
    true_time, true_time_ns = time.time, time.time_ns
    time.time = lambda: true_time() + by_s
    time.time_ns = lambda: true_time_ns() + by_s * 10**9
