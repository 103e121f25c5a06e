"""Pacing (backpressure): when intake receives, pauses, polls and extends leases. Plain Python.

Times are in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

K = TypeVar("K")
BATCH = 100
RECOUNT_S = 1.0
BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
EXTEND_AFTER = 1 / 3
"""The share of the lease after which it is extended: two extensions may fail and it still holds."""


def pause_s(failures: int) -> float:
    """Return the pause after this many failures in a row, 1 or more (backoff)."""
    return BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]


def wanted(free: int) -> int:
    """Return how many messages to receive if this many more jobs may wait.

    None are held in reserve.
    """
    return max(0, min(BATCH, free))


def needs_count(free: int, age_s: float) -> bool:
    """Whether to count the queued jobs again, or to use the count of `age_s` ago.

    The count costs more the longer the backlog is, so it is not taken for every batch.
    """
    return free < BATCH or age_s >= RECOUNT_S


def due(leased_at: Mapping[K, float], lease_s: float, now: float) -> list[K]:
    """Return the leases to extend now."""
    return [key for key, at in leased_at.items() if now - at >= lease_s * EXTEND_AFTER]


def next_due_s(leased_at: Mapping[K, float], lease_s: float, now: float) -> float | None:
    """Return the seconds until the first lease is due; None while no message is in flight."""
    if not leased_at:
        return None
    return max(0.0, min(leased_at.values()) + lease_s * EXTEND_AFTER - now)
