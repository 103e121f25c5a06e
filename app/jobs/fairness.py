"""Who goes next. Pure: candidates and counts in, an order out.

Priority first, raised by waiting so that nothing starves; among equals the tenant with the fewest
jobs under way; then the oldest. Each pick counts at once, so equal tenants alternate.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

AGEING_S = 60.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A queued job that is due. `waited_s` since it was accepted."""

    id: UUID
    tenant_id: UUID
    priority: int
    waited_s: float

    @property
    def rank(self) -> float:
        """The priority, plus one for each minute of waiting."""
        return self.priority + self.waited_s // AGEING_S


def choose(candidates: Iterable[Candidate], under_way: Mapping[UUID, int], room: int) -> list[UUID]:
    """Up to `room` job ids in the order in which they should go."""
    busy = Counter(dict(under_way))
    waiting = list(candidates)
    chosen: list[UUID] = []
    while waiting and len(chosen) < room:
        best = min(waiting, key=lambda c: (-c.rank, busy[c.tenant_id], -c.waited_s))
        waiting.remove(best)
        busy[best.tenant_id] += 1
        chosen.append(best.id)
    return chosen


def window(slots: int, running: int) -> int:
    """How many hints may lie in the broker: twice the free slots, and never less than the slots.

    The second half keeps a busy farm's slots from waiting for the next round of the dispatcher. No
    workers, no hints: the backlog stays in Postgres.
    """
    return max(2 * (slots - running), slots)
