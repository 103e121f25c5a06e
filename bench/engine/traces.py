"""Traces: the arrivals of jobs, with their steps and rows."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Step counts, drawn uniformly.
MIXES: dict[str, Sequence[int]] = {
    "uniform": (20,),
    "20-30-50": (20, 30, 50),
    "4-4-4-50": (4, 4, 4, 50),
}
# One job in four has no guidance, and so one row instead of two.
UNGUIDED = 0.25
BURST = "burst"
# Arrival rates, as multiples of the rate that one at a time can serve; a burst arrives at once.
LOADS: tuple[float | str, ...] = (0.3, 0.7, 1.0, 1.5, 2.5, BURST)


@dataclass(frozen=True, slots=True)
class Ask:
    """A job of a trace: it arrives at `at_s` and has `steps` denoiser calls of `rows` rows each."""

    name: str
    at_s: float
    steps: int
    rows: int
    shape: str = "a"


def poisson(
    jobs: int, load: float, mix: str, seed: int, serial_s: Callable[[Ask], float]
) -> list[Ask]:
    """Draw jobs that arrive at random, at `load` times the rate that one at a time can serve.

    `serial_s` returns the seconds of a single job.
    """
    draw = random.Random(f"{mix} {seed}")  # noqa: S311 - a trace, not a secret
    asks = [_ask(draw, n, mix) for n in range(jobs)]
    mean_s = sum(map(serial_s, asks)) / jobs
    now_s, trace = 0.0, []
    for ask in asks:
        now_s += draw.expovariate(load / mean_s)
        trace.append(Ask(ask.name, now_s, ask.steps, ask.rows))
    return trace


def burst(jobs: int, mix: str, seed: int) -> list[Ask]:
    """Draw jobs that all arrive at once."""
    draw = random.Random(f"{mix} {seed}")  # noqa: S311 - a trace, not a secret
    return [_ask(draw, n, mix) for n in range(jobs)]


def _ask(draw: random.Random, n: int, mix: str) -> Ask:
    rows = 1 if draw.random() < UNGUIDED else 2
    return Ask(f"job {n}", 0.0, draw.choice(MIXES[mix]), rows)
