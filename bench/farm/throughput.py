"""Many jobs without rendering: how many per second the farm itself can carry."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bench import processor
from bench.farm.contenders import await_ended
from bench.farm.rounds import play
from bench.figures import percentile

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.farm.contenders import Side
    from bench.farm.plan import Ask, Plan
    from bench.farm.rig import Rig
    from bench.figures import Figures


def measure(stage: Rig, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Submit with one call per job from several threads; then with the farm's batch call."""
    say(f"throughput: {plan.throughput_jobs} null jobs a side, {plan.client_threads} threads")
    turns = {
        "farm": lambda: _single(stage.farm, plan),
        "handmade": lambda: _single(stage.handmade, plan),
        "farm_batch": lambda: _batch(stage.farm, plan),
    }
    result = play(plan.repeats, turns, say)
    return result.json(("farm", "handmade"), ("farm_batch", "handmade"))


def _single(side: Side, plan: Plan) -> Figures:
    """Submit every job by its own call, and measure the calls."""

    def submit(ask: Ask) -> float:
        started = time.monotonic()
        side.submit(ask)
        return time.monotonic() - started

    asks = plan.null_asks(plan.throughput_jobs)
    used_s = processor.seconds(side.pids)
    began = datetime.now(UTC)
    with ThreadPoolExecutor(plan.client_threads) as pool:
        calls_s = list(pool.map(submit, asks))
    accepted_s = (datetime.now(UTC) - began).total_seconds()
    rate = _rate(side, began, accepted_s, plan)
    return {
        **rate,
        "cpu_per_job_s": (processor.seconds(side.pids) - used_s) / len(asks),
        "call_p50_s": statistics.median(calls_s),
        "call_p95_s": percentile(calls_s, 95),
    }


def _batch(side: Side, plan: Plan) -> Figures:
    """Submit all jobs in one call."""
    asks = plan.null_asks(plan.throughput_jobs)
    used_s = processor.seconds(side.pids)
    began = datetime.now(UTC)
    side.submit_all(asks)
    accepted_s = (datetime.now(UTC) - began).total_seconds()
    rate = _rate(side, began, accepted_s, plan)
    return {**rate, "cpu_per_job_s": (processor.seconds(side.pids) - used_s) / len(asks)}


def _rate(side: Side, began: datetime, accepted_s: float, plan: Plan) -> Figures:
    """Return jobs per second until all were accepted, and until all had ended."""
    count = plan.throughput_jobs
    last = await_ended(side, began, count, plan)[-1]
    return {
        "jobs_per_s": count / (last - began).total_seconds(),
        "accepted_per_s": count / accepted_s,
    }
