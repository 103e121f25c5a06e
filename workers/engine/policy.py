"""Policy: admission control and batch scheduling. Plain Python, no torch.

The job with the least work left goes first, because on a saturated device that minimises the mean
latency. Waiting and priority (ageing) lower a job's rank, whatever its shape, so no job starves. A
wider group has a higher throughput, but delays the job that is nearest to its end; the policy
simulates each width and takes the one with the least weighted waiting. There a wait counts for
more than two waits of half its length, so that the slowest jobs count as well as the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

# Each second of waiting offsets AGEING seconds of remaining work. A job with w seconds of work more
# than all others can be passed by jobs that arrive in the next w / AGEING seconds, not later.
AGEING = 0.5
# Each level of priority counts as this much waiting, as in the dispatcher.
PRIORITY_S = 60.0
# A wait counts by this power of its seconds: with 1 only the mean matters; a higher power gives the
# slowest jobs more weight. On the device models of bench/engine, 1.25 to 1.75 do about as well.
WAIT_EXPONENT = 1.5
# Even an idle device expects this many arrivals per present job. A lower value delays the last job
# of a burst, a higher one its first; 0.35 to 0.75 do about as well.
MIN_ARRIVALS_PER_JOB = 0.5
# The most jobs that a simulation includes; jobs behind them only wait until it is over.
HORIZON = 16


@dataclass(frozen=True, slots=True)
class Parked:
    """A job parked at a call: calls with equal `key` can share a forward, to which it adds `rows`.

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


class CostModel(Protocol):
    """The device's figures that the policy needs: see `workers.engine.cost.Costs`."""

    def seconds(self, key: Hashable, rows: int) -> float:
        """Return T(rows), measured or estimated."""

    def limit(self, key: Hashable) -> int:
        """Return the most rows that fit."""

    @property
    def pressure(self) -> float:
        """Return the expected arrivals per present job."""


def rank(job: Parked, costs: CostModel) -> float:
    """Return the job's rank in seconds; the lowest rank runs first."""
    work_s = job.calls_left * costs.seconds(job.key, job.rows)
    return work_s - AGEING * (job.waited_s + PRIORITY_S * job.priority)


def choose(parked: Sequence[Parked], costs: CostModel) -> list[str]:
    """Return the jobs to run now: the leader, which is first in line, and the jobs batched with it.

    The leader runs whatever its rows are; jobs of equal rank keep their order.
    """
    if not parked:
        return []
    line = sorted(parked, key=lambda job: rank(job, costs))
    group = batchable(line)
    rows = best_rows(group, len(line) - len(group), costs)
    return [job.job for job in fill(group, rows)]


def batchable(line: Sequence[Parked]) -> list[Parked]:
    """Return the first job in line and the jobs that may share its forward."""
    first, others = line[0], line[1:]
    return [
        first,
        *(job for job in others if job.key == first.key and not (first.unbatched or job.unbatched)),
    ]


def best_rows(group: Sequence[Parked], others: int, costs: CostModel) -> int:
    """Return the rows to batch that give `group` and the `others` behind it the least waiting.

    Expected arrivals count as well: the busier the device has been, the more of them.
    """
    key, limit = group[0].key, costs.limit(group[0].key)
    simulated = group[:HORIZON]
    present = len(group) + others
    behind = present - len(simulated) + (MIN_ARRIVALS_PER_JOB + costs.pressure) * present
    seconds = cache(lambda rows: costs.seconds(key, rows))
    waits = {
        rows: _weighted_wait(simulated, rows, behind, seconds) for rows in _sizes(simulated, limit)
    }
    return min(waits, key=lambda rows: (waits[rows], rows))


def fill(line: Sequence[Parked], rows: int) -> list[Parked]:
    """Return the jobs that fit in `rows` rows, in the order of the line; the first always does."""
    taken, room = [], max(rows, line[0].rows)
    for job in line:
        if job.rows <= room:
            taken.append(job)
            room -= job.rows
    return taken


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job for admission. An `exclusive` one runs without others; a `lane` holds one job."""

    exclusive: bool = False
    lane: str | None = None


def admit(waiting: Sequence[Candidate], in_flight: Sequence[Candidate]) -> list[int]:
    """Return the positions of the waiting jobs that may start now.

    An exclusive job starts when no other job is in flight. It holds back the jobs behind it, so it
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


def _sizes(line: Sequence[Parked], limit: int) -> Sequence[int]:
    """Return the multiples of the leader's rows, and all rows that fit."""
    least = line[0].rows
    most = max(least, min(limit, sum(job.rows for job in line)))
    return [*range(least, most, least), most]


def _weighted_wait(
    line: Sequence[Parked], rows: int, others: float, seconds: Callable[[int], float]
) -> float:
    """Simulate groups of up to `rows` rows until all jobs have ended; return the weighted waiting.

    A job in line waits from its arrival to its end, the others from now until all have ended.
    """
    remaining = [[max(1.0, job.calls_left), job.rows, job.waited_s] for job in line]
    now_s = total = 0.0
    while remaining:
        room, group = max(rows, remaining[0][1]), []
        for job in remaining:
            if job[1] <= room:
                group.append(job)
                room -= job[1]
        calls = min(job[0] for job in group)
        now_s += calls * seconds(int(sum(job[1] for job in group)))
        for job in group:
            job[0] -= calls
        total += sum(math.pow(now_s + job[2], WAIT_EXPONENT) for job in group if job[0] <= 0)
        remaining = [job for job in remaining if job[0] > 0]
    return total + others * math.pow(now_s, WAIT_EXPONENT)
