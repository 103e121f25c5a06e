"""Who goes next. Pure: candidates and counts in, an order out.

Priority first, raised by waiting so that nothing starves; among equals the tenant that is served
least now, which is the one with the fewest jobs under way; then the oldest. Each pick counts at
once, so equal tenants alternate.

Jobs of one shape share forward passes, so once somebody's turn has come, others of the same shape
may come along, from no further back than `LOOK_AHEAD` places and only past jobs of their own rank.
So nobody is overtaken by more than `LOOK_AHEAD`, and never by a job of lower rank.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

AGEING_S = 60.0
LOOK_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A queued job that is due. `waited_s` since it was accepted; `shape` as others must have it."""

    id: UUID
    tenant_id: UUID
    priority: int
    waited_s: float
    shape: str = ""

    @property
    def rank(self) -> float:
        """The priority, plus one for each minute of waiting."""
        return self.priority + self.waited_s // AGEING_S


def choose(
    candidates: Iterable[Candidate],
    under_way: Mapping[UUID, int],
    room: int,
    allowed: Mapping[UUID, int] | None = None,
) -> list[UUID]:
    """Up to `room` job ids in the order in which they should go.

    `allowed` is how many more of a tenant's jobs may go; tenants that are not in it are not limited.
    """
    turns = list(_turns(candidates, under_way, room, allowed or {}))
    return [candidate.id for candidate in _by_shape(turns)]


def window(slots: int, running: int) -> int:
    """How many hints may lie in the broker: twice the free slots, and never less than half of all.

    That half keeps a busy farm's slots from waiting for the next round of the dispatcher. More would
    make who comes next wait behind them: a hint that was sent is not overtaken. No workers, no
    hints: the backlog stays in Postgres.
    """
    return max(2 * (slots - running), (slots + 1) // 2)


def _turns(
    candidates: Iterable[Candidate],
    under_way: Mapping[UUID, int],
    room: int,
    allowed: Mapping[UUID, int],
) -> Iterator[Candidate]:
    """The fair order. Each tenant's own order is fixed; the heap holds the head of each."""
    queues: defaultdict[UUID, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        queues[candidate.tenant_id].append(candidate)
    for tenant, waiting in queues.items():
        waiting.sort(key=lambda c: (-c.rank, -c.waited_s, c.id))
        waiting.reverse()
        if tenant in allowed:
            del waiting[: max(0, len(waiting) - max(0, allowed[tenant]))]
    busy = Counter(dict(under_way))
    heap = [_entry(waiting[-1], busy) for waiting in queues.values() if waiting]
    heapq.heapify(heap)
    for _ in range(room):
        if not heap:
            return
        tenant = heap[0][-1]
        yield queues[tenant].pop()
        busy[tenant] += 1
        if queues[tenant]:
            heapq.heapreplace(heap, _entry(queues[tenant][-1], busy))
        else:
            heapq.heappop(heap)


def _entry(head: Candidate, busy: Mapping[UUID, int]) -> tuple[float, int, float, UUID]:
    return (-head.rank, busy[head.tenant_id], -head.waited_s, head.tenant_id)


def _by_shape(turns: Sequence[Candidate]) -> Iterator[Candidate]:
    """Each in its turn, followed by those of its shape and rank that wait close behind it."""
    gone: set[int] = set()
    for place, head in enumerate(turns):
        if place in gone:
            continue
        yield head
        for near in range(place + 1, min(place + 1 + LOOK_AHEAD, len(turns))):
            mate = turns[near]
            if mate.rank != head.rank:
                break
            if near not in gone and mate.shape == head.shape:
                gone.add(near)
                yield mate
