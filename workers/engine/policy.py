"""Policy: who starts, and which calls run next. Plain Python, no torch.

Fewest steps left first: on a saturated device that gives the least mean latency. A job gains rank
with each tick that it is passed over, so none starves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

# A job that waits four ticks comes level with one that has a step less to go.
AGEING_STEPS_PER_TICK = 0.25
# One level of priority is worth this head start.
PRIORITY_STEPS = 10.0


@dataclass(frozen=True, slots=True)
class Parked:
    """A job waiting at a call: `key` is what it can share, `rows` what it adds to a forward.

    `steps_left` counts denoiser calls to go, and is 0 outside the denoising loop: text is encoded
    at once, so that a job joins the batch early, and a finished picture is decoded at once.
    `passed_over` counts the ticks in which others ran instead, since the job was started.
    """

    job: str
    key: Hashable
    rows: int
    steps_left: float = 0.0
    passed_over: int = 0
    priority: int = 0

    @property
    def rank(self) -> float:
        """The job's place in the line, in steps: the lowest runs first."""
        head_start = self.passed_over * AGEING_STEPS_PER_TICK + self.priority * PRIORITY_STEPS
        return self.steps_left - head_start


def choose(parked: Sequence[Parked], cap: Callable[[Hashable], int]) -> list[str]:
    """Return the jobs to run now: the first in line, and those who can share its forward.

    `cap(key)` is the most rows worth stacking. The leader runs whatever its rows; jobs of equal
    rank keep their order.
    """
    if not parked:
        return []
    line = sorted(parked, key=lambda job: job.rank)
    leader = line[0]
    room = max(cap(leader.key), leader.rows)
    chosen = []
    for job in line:
        if job.key == leader.key and job.rows <= room:
            chosen.append(job.job)
            room -= job.rows
    return chosen


def admit(waiting: Sequence[bool], in_flight: Sequence[bool]) -> int:
    """Return how many jobs from the head of the line may start.

    True marks a job that must run alone. It starts when nobody is in flight and holds back those
    behind it, so it waits only for those who came before.
    """
    if any(in_flight):
        return 0
    alone = next((place for place, flag in enumerate(waiting) if flag), len(waiting))
    if alone == 0 and waiting and not in_flight:
        return 1
    return alone
