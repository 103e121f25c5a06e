"""Policy: who starts, and which calls run next. Plain Python, no torch.

Least work left first: on a saturated device that gives the least mean latency. Waiting and priority
lower a job's rank, whatever its shape, so none starves. A wider group does more in all, but holds
back whoever is nearest to the end; how wide it is comes from playing the choices out. There a long
wait counts for more than two of half its length, so that the slowest jobs matter beside the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

# A second of waiting outweighs so many seconds of work. A job with w seconds of work more than all
# others is passed by those who come in the next w / AGEING seconds, and by nobody after them.
AGEING = 0.5
# A level of priority is worth so much waiting, as in the dispatcher.
PRIORITY_S = 60.0
# A wait counts by this power of its seconds: at 1 only the mean would matter, the higher it is, the
# more the slowest jobs do. On the device models of bench/engine, 1.25 to 1.75 do about as well.
WEIGHT = 1.5
# Even on a device that was idle, so many more are to be expected for each job that is here. Less
# delays the last of a burst, more its first; 0.35 to 0.75 do about as well.
EXPECTED = 0.5
# Jobs that a choice is played out for; those behind them only wait until it is over.
HORIZON = 16


@dataclass(frozen=True, slots=True)
class Parked:
    """A job waiting at a call: `key` is what it can share, `rows` what it adds to a forward.

    `calls_left` counts calls of this kind to go: of the denoiser in the loop, 1 at the decoder. It
    is 0 before the loop: text is encoded at once, so that a job joins the batch early. One that
    stays `unbatched` shares no forward.
    """

    job: str
    key: Hashable
    rows: int
    calls_left: float = 0.0
    waited_s: float = 0.0
    priority: int = 0
    unbatched: bool = False


class Times(Protocol):
    """What the policy needs to know of the device: see `workers.engine.cost.Costs`."""

    def seconds(self, key: Hashable, rows: int) -> float:
        """Return T(rows), measured or estimated."""

    def limit(self, key: Hashable) -> int:
        """Return the most rows that fit."""

    @property
    def pressure(self) -> float:
        """Return how many more are to be expected for each one that is here."""


def rank(job: Parked, times: Times) -> float:
    """Return the job's place in the line, in seconds: the lowest runs first."""
    work_s = job.calls_left * times.seconds(job.key, job.rows)
    return work_s - AGEING * (job.waited_s + PRIORITY_S * job.priority)


def choose(parked: Sequence[Parked], times: Times) -> list[str]:
    """Return the jobs to run now: the first in line, and whom it pays to take along.

    The leader runs whatever its rows; jobs of equal rank keep their order.
    """
    if not parked:
        return []
    line = sorted(parked, key=lambda job: rank(job, times))
    group = mates_of(line)
    rows = width(group, len(line) - len(group), times)
    return [mate.job for mate in fill(group, rows)]


def mates_of(line: Sequence[Parked]) -> list[Parked]:
    """Return who may share a forward with the first in line, the first included."""
    first, others = line[0], line[1:]
    return [
        first,
        *(job for job in others if job.key == first.key and not (first.unbatched or job.unbatched)),
    ]


def width(mates: Sequence[Parked], others: int, times: Times) -> int:
    """Return the rows to stack: the least weighed waiting, of `mates` and of `others` behind.

    Those who are still to come count as well: the busier the device has been, the more of them.
    """
    key, limit = mates[0].key, times.limit(mates[0].key)
    played = mates[:HORIZON]
    here = len(mates) + others
    behind = here - len(played) + (EXPECTED + times.pressure) * here
    seconds = cache(lambda rows: times.seconds(key, rows))
    waits = {rows: _weighed_wait(played, rows, behind, seconds) for rows in _widths(played, limit)}
    return min(waits, key=lambda rows: (waits[rows], rows))


def fill(line: Sequence[Parked], rows: int) -> list[Parked]:
    """Return who fits in so many rows, in the order of the line; the first always does."""
    taken, room = [], max(rows, line[0].rows)
    for job in line:
        if job.rows <= room:
            taken.append(job)
            room -= job.rows
    return taken


@dataclass(frozen=True, slots=True)
class Entrant:
    """A job at the door. `alone` wants everyone else out; a `lane` holds one job at a time."""

    exclusive: bool = False
    lane: str | None = None


def admit(waiting: Sequence[Entrant], in_flight: Sequence[Entrant]) -> list[int]:
    """Return which of those who wait may start.

    One that must be alone starts when nobody is in flight and holds back those behind it, so it
    waits only for those who came before.
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
    """Return the leader's rows, twice, three times as many and so on, and all rows that fit."""
    least = line[0].rows
    most = max(least, min(limit, sum(job.rows for job in line)))
    return [*range(least, most, least), most]


def _weighed_wait(
    line: Sequence[Parked], rows: int, others: float, seconds: Callable[[int], float]
) -> float:
    """Play it out: groups of so many rows, until all have ended; the sum of what each wait counts.

    Who is here waits from its coming to its end, the others from now until all is over.
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
