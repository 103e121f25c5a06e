"""One small job at a time: the time from the call to the known picture, and its parts."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from bench.farm.rounds import Result, turned
from bench.figures import percentile, typical

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.farm.contenders import Parts, Side
    from bench.farm.plan import Ask, Plan
    from bench.farm.rig import Rig
    from bench.figures import Figures


def measure(stage: Rig, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """With nothing to render (the cost of the farm itself), and with the model."""
    asks = {
        "null": plan.null_asks(plan.latency_jobs),
        "scenes": plan.scene_asks(plan.latency_jobs),
    }
    found = {}
    for model, jobs in asks.items():
        say(f"latency, {model}: {len(jobs)} jobs a side, one at a time")
        rounds = [_round(stage.contenders, jobs, number) for number in range(plan.repeats)]
        found[model] = Result(tuple(rounds)).json(("farm", "handmade"))
    return found


def _round(contenders: Sequence[Side], asks: Sequence[Ask], number: int) -> dict[str, Figures]:
    """The contenders take turns job by job, so that a slow moment of the machine meets both."""
    parts: dict[str, list[Parts]] = {side.name: [] for side in contenders}
    by_name = {side.name: side for side in contenders}
    for n, ask in enumerate(asks):
        for name in turned(list(by_name), number + n):
            parts[name].append(by_name[name].render(ask))
    return {name: figures(found) for name, found in parts.items()}


def figures(parts: Sequence[Parts]) -> Figures:
    """Return each part's median.

    Of the whole, and of all but rendering, also the 95th percentile.
    """
    totals = [each.total_s for each in parts]
    overheads = [each.total_s - each.render_s for each in parts]
    return {
        **typical([each.figures() for each in parts]),
        "total_p95_s": percentile(totals, 95),
        "overhead_s": statistics.median(overheads),
        "overhead_p95_s": percentile(overheads, 95),
        "times_render": statistics.median(
            each.total_s / each.render_s if each.render_s else 0.0 for each in parts
        ),
    }
