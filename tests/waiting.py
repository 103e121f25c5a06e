"""Polling: the one wait helper of the tests."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 120.0  # only a test that fails waits this long
POLL_S = 0.01


def until(condition: Callable[[], Any]) -> Any:
    """Poll `condition` until its result is true, and return that result; fail after PATIENCE_S."""
    result = poll(condition, PATIENCE_S)
    assert result, "the condition did not become true"
    return result


def poll(condition: Callable[[], Any], within_s: float, *, every_s: float = POLL_S) -> Any:
    """Poll `condition` until its result is true or `within_s` is over; return the last result."""
    give_up_at = time.monotonic() + within_s
    while not (result := condition()) and time.monotonic() < give_up_at:
        threading.Event().wait(every_s)
    return result
