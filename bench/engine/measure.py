"""Figures of a replayed trace: latency and throughput."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.engine.traces import Ask

FIGURES = ("mean_s", "p50_s", "p95_s", "p99_s", "first_s", "images_per_s")


def figures(trace: Sequence[Ask], ended_s: Mapping[str, float]) -> dict[str, float]:
    """Return latencies from arrival to end, and the pictures per second of the whole trace."""
    if missing := [ask.name for ask in trace if ask.name not in ended_s]:
        raise ValueError(f"{len(missing)} jobs have not ended, such as {missing[0]}")
    waits_s = sorted(ended_s[ask.name] - ask.at_s for ask in trace)
    return {
        "mean_s": statistics.mean(waits_s),
        "p50_s": quantile(waits_s, 0.50),
        "p95_s": quantile(waits_s, 0.95),
        "p99_s": quantile(waits_s, 0.99),
        "first_s": min(ended_s.values()) - trace[0].at_s,
        "images_per_s": len(trace) / (max(ended_s.values()) - trace[0].at_s),
    }


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the quantile: this `share` of the values is at or below it."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def averaged(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over the seeds."""
    return {name: statistics.mean(run[name] for run in runs) for name in runs[0]}
