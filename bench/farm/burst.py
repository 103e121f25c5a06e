"""A burst of pictures of mixed steps, submitted at once: the gain of step-level batching."""

from __future__ import annotations

import io
import statistics
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from PIL import Image

from bench import processor
from bench.errors import BenchError
from bench.farm.contenders import await_ended
from bench.farm.plan import GUIDANCE
from bench.farm.rounds import play
from bench.figures import percentile

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.farm.contenders import Side
    from bench.farm.plan import Plan
    from bench.farm.rig import Rig
    from bench.figures import Figures

_STATS = """SELECT coalesce(sum((stats->'forwards'->>'denoiser')::int), 0),
                   coalesce(sum((stats->'rows'->>'denoiser')::int), 0), min(seen_at) FROM workers"""


def measure(stage: Rig, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure both contenders with the same requests, and how far their pictures differ."""
    say(f"burst: {plan.burst_jobs} pictures a side, steps {plan.burst_steps}")
    ids: dict[str, list[str]] = {}
    turns = {
        "farm": lambda: _burst_on_farm(stage.farm, plan, ids),
        "handmade": lambda: _burst_on_handmade(stage.handmade, plan, ids),
    }
    found = play(plan.repeats, turns, say).json(("farm", "handmade"))
    apart = [
        difference(stage.farm.picture(ours), stage.handmade.picture(theirs))
        for ours, theirs in zip(ids["farm"], ids["handmade"], strict=True)
    ]
    return {**found, "largest_pixel_difference_of_255": max(apart)}


def warm_up(side: Side, plan: Plan) -> None:
    """Run a burst that is not measured: the engine first learns how many rows pay off."""
    _burst(side, plan, {})


def difference(one: bytes, other: bytes) -> int:
    """Return the largest difference of any pixel between two picture files of one size."""
    a, b = (np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), int) for file in (one, other))
    return int(np.abs(a - b).max())


def _burst_on_farm(side: Side, plan: Plan, ids: dict[str, list[str]]) -> Figures:
    """Add the rows of each denoiser forward, from the workers' own statistics."""
    forwards_before, rows_before = _forwards(side, datetime.now(UTC), plan)
    figures, last = _burst(side, plan, ids)
    forwards, rows = _forwards(side, last, plan)
    forwards, rows = forwards - forwards_before, rows - rows_before
    steps = sum(ask.steps for ask in plan.burst_asks())
    return {**figures, "rows_per_forward": rows / forwards, "jobs_per_forward": steps / forwards}


def _burst_on_handmade(side: Side, plan: Plan, ids: dict[str, list[str]]) -> Figures:
    """The stock pipeline runs one job, with a second row for guidance."""
    figures, _ = _burst(side, plan, ids)
    return {**figures, "rows_per_forward": 2.0 if GUIDANCE > 1 else 1.0, "jobs_per_forward": 1.0}


def _burst(side: Side, plan: Plan, ids: dict[str, list[str]]) -> tuple[Figures, datetime]:
    asks = plan.burst_asks()
    used_s = processor.seconds(side.pids)
    began = datetime.now(UTC)
    ids[side.name] = side.submit_all(asks)
    ends = await_ended(side, began, len(asks), plan)
    latencies_s = [(at - began).total_seconds() for at in ends]
    figures = {
        "images_per_s": len(asks) / latencies_s[-1],
        "mean_latency_s": statistics.mean(latencies_s),
        "first_s": latencies_s[0],
        "p95_latency_s": percentile(latencies_s, 95),
        "last_s": latencies_s[-1],
        "cpu_per_image_s": (processor.seconds(side.pids) - used_s) / len(asks),
    }
    return figures, ends[-1]


def _forwards(side: Side, since: datetime, plan: Plan) -> tuple[int, int]:
    """Return the denoiser's forwards and rows so far, as the workers reported after `since`."""
    deadline = time.monotonic() + plan.patience_s
    with psycopg.connect(side.database_url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(_STATS).fetchone()
            if row is not None and row[2] is not None and row[2] > since:
                return int(row[0]), int(row[1])
            time.sleep(0.1)
    raise BenchError(f"{side.name}: no worker reported in time")
