"""Fair scheduling: which jobs run next. Plain Python: candidates and counts in, an order out.

The order is: priority, which rises with waiting (ageing) so that no job starves; then the tenant
with the fewest jobs in progress; then the oldest job. Each choice counts at once, so equal tenants
alternate.

Jobs of one shape share forward passes. After a job is chosen, other jobs of its shape may come
along, from at most `LOOK_AHEAD` places behind it and only past jobs of their own rank. So a job is
overtaken by at most `LOOK_AHEAD` others, and never by a job of lower rank.
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
    """A queued job that is due. `waited_s` counts from its acceptance; `shape` is its batch key."""

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
    in_progress: Mapping[UUID, int],
    room: int,
    allowed: Mapping[UUID, int] | None = None,
) -> list[UUID]:
    """Return up to `room` job ids in the order in which they should run.

    `allowed` is how many more jobs of a tenant may run; a tenant without an entry has no limit.
    """
    turns = list(_turns(candidates, in_progress, room, allowed or {}))
    return [candidate.id for candidate in _by_shape(turns)]


def window(slots: int, running: int) -> int:
    """Return how many hints may be in the broker: twice the free slots, at least half of all slots.

    With fewer than half, the slots of a busy farm would wait for the next round. With more, a job
    that comes later would wait longer, because a published hint is not overtaken. Without workers
    there are no hints, and the backlog stays in Postgres.
    """
    return max(2 * (slots - running), (slots + 1) // 2)


def _turns(
    candidates: Iterable[Candidate],
    in_progress: Mapping[UUID, int],
    room: int,
    allowed: Mapping[UUID, int],
) -> Iterator[Candidate]:
    """Yield the fair order. Each tenant's own order is fixed; the heap holds the head of each."""
    queues: defaultdict[UUID, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        queues[candidate.tenant_id].append(candidate)
    for tenant, waiting in queues.items():
        waiting.sort(key=lambda c: (-c.rank, -c.waited_s, c.id))
        waiting.reverse()
        if tenant in allowed:
            del waiting[: max(0, len(waiting) - max(0, allowed[tenant]))]
    busy = Counter(dict(in_progress))
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
    """Yield each job in its turn, followed by close jobs of its shape and rank."""
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
