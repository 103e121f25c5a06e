"""Waiting for what happens elsewhere: until it has, not for so many seconds."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 120.0  # only a test that fails waits this long
POLL_S = 0.01


def until(condition: Callable[[], Any]) -> Any:
    """What the condition says once it holds."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < give_up_at, "it never came to hold"
        threading.Event().wait(POLL_S)
    return found
