"""When intake receives, pauses, looks again and extends leases. Plain arithmetic; times in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

K = TypeVar("K")
BATCH = 100
LOOK_AGAIN_S = 1.0
PAUSES_S = (0.1, 0.5, 1.0, 2.0, 5.0)
EXTEND_AFTER = 1 / 3
"""Of the lease: two extensions may fail and it still holds."""


def pause_s(failures: int) -> float:
    """How long to wait after so many failures in a row, 1 or more."""
    return PAUSES_S[min(failures, len(PAUSES_S)) - 1]


def wanted(free: int) -> int:
    """How many messages to ask for when so many more jobs may wait. None are fetched to be held."""
    return max(0, min(BATCH, free))


def needs_look(free: int, age_s: float) -> bool:
    """Whether to count the waiting jobs anew, or to trust the count of `age_s` ago.

    Counting costs the database more the longer the backlog is, so it is not done for every batch.
    """
    return free < BATCH or age_s >= LOOK_AGAIN_S


def due(leased_at: Mapping[K, float], lease_s: float, now: float) -> list[K]:
    """Which leases to extend now."""
    return [key for key, at in leased_at.items() if now - at >= lease_s * EXTEND_AFTER]


def next_due_s(leased_at: Mapping[K, float], lease_s: float, now: float) -> float | None:
    """In how many seconds the first lease is due; none while nothing is in hand."""
    if not leased_at:
        return None
    return max(0.0, min(leased_at.values()) + lease_s * EXTEND_AFTER - now)
