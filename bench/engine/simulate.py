"""Simulation: replays a trace on a device model under a policy, without torch or sleeping.

The strategies that batch step by step use `workers.engine.policy` and `workers.engine.cost`, as the
engine does. They learn T(rows) from their own forwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.engine import policy
from workers.engine.cost import Costs
from workers.engine.policy import Parked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.engine.traces import Ask

    Seconds = Callable[[int], float]
    Choose = Callable[[Sequence[Parked], policy.CostModel], list[str]]
    Strategy = Callable[[Sequence[Ask], Seconds], dict[str, float]]

MAX_ROWS = 16
WINDOW_S = 0.05
THREADS = 16


@dataclass(slots=True)
class _Job:
    ask: Ask
    remaining: float


def steps_with(choose: Choose, *, warm: bool = True) -> Strategy:
    """Return a strategy that batches step by step; `warm` measures T(rows) before the first job."""

    def strategy(trace: Sequence[Ask], seconds: Seconds) -> dict[str, float]:
        costs = Costs(MAX_ROWS)
        if warm:
            _warm_up(costs, trace, seconds)
        here: dict[str, _Job] = {}
        coming, now_s, ended = list(trace), 0.0, {}
        while coming or here:
            if not here:
                now_s = max(now_s, coming[0].at_s)
            while coming and coming[0].at_s <= now_s:
                here[coming[0].name] = _Job(coming[0], coming[0].steps)
                coming.pop(0)
            group = [
                here[name] for name in choose([_parked(j, now_s) for j in here.values()], costs)
            ]
            rows = sum(job.ask.rows for job in group)
            costs.observe_busy(now_s, now_s + seconds(rows))
            now_s += seconds(rows)
            costs.observe(group[0].ask.shape, rows, seconds(rows))
            for job in group:
                job.remaining -= 1
                if job.remaining == 0:
                    ended[job.ask.name] = now_s
                    del here[job.ask.name]
        return ended

    return strategy


def _parked(job: _Job, now_s: float) -> Parked:
    ask = job.ask
    return Parked(ask.name, ask.shape, ask.rows, job.remaining, now_s - ask.at_s)


def _warm_up(costs: Costs, trace: Sequence[Ask], seconds: Seconds) -> None:
    for shape in {ask.shape for ask in trace}:
        for rows in (2, 4, 8, 16):
            for _ in range(3):
                costs.observe(shape, rows, seconds(rows))


def serial(trace: Sequence[Ask], seconds: Seconds) -> dict[str, float]:
    """Render one job at a time, first come first served, like a Celery worker with one process."""
    now_s, ended = 0.0, {}
    for ask in trace:
        now_s = max(now_s, ask.at_s) + ask.steps * seconds(ask.rows)
        ended[ask.name] = now_s
    return ended


def threads(trace: Sequence[Ask], seconds: Seconds) -> dict[str, float]:
    """Render each request in its own thread; the device divides its time evenly."""
    coming, now_s, ended = list(trace), 0.0, {}
    here: list[_Job] = []
    while coming or here:
        if not here:
            now_s = max(now_s, coming[0].at_s)
        while coming and coming[0].at_s <= now_s and len(here) < THREADS:
            here.append(_Job(coming[0], coming[0].steps * seconds(coming[0].rows)))
            coming.pop(0)
        part_s = min(job.remaining for job in here)
        if coming and len(here) < THREADS:
            part_s = min(part_s, (coming[0].at_s - now_s) / len(here))
        now_s += part_s * len(here)
        for job in here:
            job.remaining -= part_s
            if job.remaining <= 1e-12:
                ended[job.ask.name] = now_s
        here = [job for job in here if job.remaining > 1e-12]
    return ended


def window(trace: Sequence[Ask], seconds: Seconds) -> dict[str, float]:
    """Wait `WINDOW_S` for jobs of equal shape, steps and guidance; run each batch to its end."""
    waiting: list[Ask] = []
    coming, now_s, ended = list(trace), 0.0, {}
    while coming or waiting:
        if not waiting:
            now_s = max(now_s, coming[0].at_s + WINDOW_S)
        while coming and coming[0].at_s <= now_s:
            waiting.append(coming.pop(0))
        first = waiting[0]
        now_s = max(now_s, first.at_s + WINDOW_S)
        same = [
            a
            for a in waiting
            if (a.shape, a.steps, a.rows) == (first.shape, first.steps, first.rows)
        ]
        batch = same[: MAX_ROWS // first.rows]
        now_s += first.steps * seconds(first.rows * len(batch))
        for ask in batch:
            ended[ask.name] = now_s
            waiting.remove(ask)
    return ended


def first_come(parked: Sequence[Parked], costs: policy.CostModel) -> list[str]:
    """Choose the oldest job and the jobs of equal key and rows, as many as fit in memory."""
    if not parked:
        return []
    line = sorted(parked, key=lambda job: -job.waited_s)
    group = [job for job in policy.batchable(line) if job.rows == line[0].rows]
    return [job.job for job in policy.fill(group, costs.limit(line[0].key))]


def without_cap(parked: Sequence[Parked], costs: policy.CostModel) -> list[str]:
    """Choose like the engine's policy, but as many rows as fit."""
    if not parked:
        return []
    line = sorted(parked, key=lambda job: policy.rank(job, costs))
    group = policy.batchable(line)
    return [job.job for job in policy.fill(group, costs.limit(line[0].key))]


def without_fewest_first(parked: Sequence[Parked], costs: policy.CostModel) -> list[str]:
    """Choose as many rows as the engine's policy would, but the oldest jobs first."""
    if not parked:
        return []
    line = sorted(parked, key=lambda job: -job.waited_s)
    group = policy.batchable(line)
    rows = policy.best_rows(group, len(line) - len(group), costs)
    return [job.job for job in policy.fill(group, rows)]


CHOICES: dict[str, Choose] = {
    "first-come": first_come,
    "ours": policy.choose,
    "no-cap": without_cap,
    "no-fewest-first": without_fewest_first,
}
STRATEGIES: dict[str, Strategy] = {
    "serial": serial,
    "threads": threads,
    "window": window,
    **{name: steps_with(choose) for name, choose in CHOICES.items()},
}
