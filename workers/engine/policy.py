"""Policy (scheduling): which jobs start, and which calls run next. Plain Python, no torch.

The job with the least remaining work runs first: on a saturated device this gives the lowest mean
latency. Waiting and priority improve a job's rank (ageing), whatever its shape, so no job starves.
A wider group does more work per second, but holds back the job that is nearest to its end. The
policy simulates each width and takes the best. In the simulation a long wait counts more than two
waits of half its length, so that the slowest jobs matter as well as the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

# Each second of waiting offsets AGEING seconds of remaining work. A job with w seconds of work more
# than all others is passed only by the jobs that come in the next w / AGEING seconds.
AGEING = 0.5
# A level of priority is worth this many seconds of waiting, as in the dispatcher.
PRIORITY_S = 60.0
# A wait counts by this power of its seconds. At 1 only the mean would matter; a higher power gives
# the slowest jobs more weight. On the device models of bench/engine, 1.25 to 1.75 give about the
# same result.
WEIGHT = 1.5
# Even on an idle device, this many further jobs are expected per present job. A lower value delays
# the last of a burst, a higher one its first; 0.35 to 0.75 give about the same result.
EXPECTED = 0.5
# A choice is simulated for this many jobs; those behind them only wait until it is over.
HORIZON = 16


@dataclass(frozen=True, slots=True)
class Parked:
    """A job that waits at a call: `key` decides what it can share, `rows` are its rows.

    `calls_left` counts the remaining calls of this kind: of the denoiser in the loop, 1 at the
    decoder. It is 0 before the loop: text is encoded at once, so that a job joins the batch early.
    An `unbatched` job shares no forward.
    """

    job: str
    key: Hashable
    rows: int
    calls_left: float = 0.0
    waited_s: float = 0.0
    priority: int = 0
    unbatched: bool = False


class Times(Protocol):
    """What the policy must know of the device: see `workers.engine.cost.Costs`."""

    def seconds(self, key: Hashable, rows: int) -> float:
        """Return T(rows), measured or estimated."""

    def limit(self, key: Hashable) -> int:
        """Return the largest number of rows that fits."""

    @property
    def pressure(self) -> float:
        """Return how many further jobs to expect per present job."""


def rank(job: Parked, times: Times) -> float:
    """Return the job's rank in the queue, in seconds: the lowest runs first."""
    work_s = job.calls_left * times.seconds(job.key, job.rows)
    return work_s - AGEING * (job.waited_s + PRIORITY_S * job.priority)


def choose(parked: Sequence[Parked], times: Times) -> list[str]:
    """Return the jobs to run now: the first in the queue, and those that share its forward.

    The leader runs whatever its rows; jobs of equal rank keep their order.
    """
    if not parked:
        return []
    line = sorted(parked, key=lambda job: rank(job, times))
    group = mates_of(line)
    rows = width(group, len(line) - len(group), times)
    return [mate.job for mate in fill(group, rows)]


def mates_of(line: Sequence[Parked]) -> list[Parked]:
    """Return the jobs that may share a forward with the first in the queue, which is included."""
    first, others = line[0], line[1:]
    return [
        first,
        *(job for job in others if job.key == first.key and not (first.unbatched or job.unbatched)),
    ]


def width(mates: Sequence[Parked], others: int, times: Times) -> int:
    """Return the rows to stack: the least weighted waiting, of `mates` and of `others` behind.

    Jobs that are still to come count as well; the busier the device has been, the more of them.
    """
    key, limit = mates[0].key, times.limit(mates[0].key)
    played = mates[:HORIZON]
    here = len(mates) + others
    behind = here - len(played) + (EXPECTED + times.pressure) * here
    seconds = cache(lambda rows: times.seconds(key, rows))
    waits = {rows: _weighed_wait(played, rows, behind, seconds) for rows in _widths(played, limit)}
    return min(waits, key=lambda rows: (waits[rows], rows))


def fill(line: Sequence[Parked], rows: int) -> list[Parked]:
    """Return the jobs that fit in this many rows, in queue order; always the first one."""
    taken, room = [], max(rows, line[0].rows)
    for job in line:
        if job.rows <= room:
            taken.append(job)
            room -= job.rows
    return taken


@dataclass(frozen=True, slots=True)
class Entrant:
    """A job that waits for admission.

    `exclusive` allows no other job; a `lane` holds one at a time.
    """

    exclusive: bool = False
    lane: str | None = None


def admit(waiting: Sequence[Entrant], in_flight: Sequence[Entrant]) -> list[int]:
    """Return which of the waiting jobs may start.

    An exclusive job starts when no other job is in flight, and holds back the jobs behind it. So it
    waits only for the jobs before it.
    """
    if any(job.exclusive for job in in_flight):
        return []
    taken = {job.lane for job in in_flight if job.lane}
    starts: list[int] = []
    for place, job in enumerate(waiting):
        if job.exclusive:
            return starts if place or in_flight else [place]
        if job.lane not in taken:
            starts.append(place)
            taken |= {job.lane} if job.lane else set()
    return starts


def _widths(line: Sequence[Parked], limit: int) -> Sequence[int]:
    """Return the leader's rows, their multiples by two, three and so on, and all rows that fit."""
    least = line[0].rows
    most = max(least, min(limit, sum(job.rows for job in line)))
    return [*range(least, most, least), most]


def _weighed_wait(
    line: Sequence[Parked], rows: int, others: float, seconds: Callable[[int], float]
) -> float:
    """Simulate groups of this many rows until all jobs have ended; return the weighted waits.

    Present jobs wait from their arrival to their end, the others from now until all is over.
    """
    left = [[max(1.0, job.calls_left), job.rows, job.waited_s] for job in line]
    now_s = total = 0.0
    while left:
        room, group = max(rows, left[0][1]), []
        for job in left:
            if job[1] <= room:
                group.append(job)
                room -= job[1]
        calls = min(job[0] for job in group)
        now_s += calls * seconds(int(sum(job[1] for job in group)))
        for job in group:
            job[0] -= calls
        total += sum(math.pow(now_s + job[2], WEIGHT) for job in group if job[0] <= 0)
        left = [job for job in left if job[0] > 0]
    return total + others * math.pow(now_s, WEIGHT)
