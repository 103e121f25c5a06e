"""The strategies on this machine's processor, in processor time: each renders every trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bench.engine.measure import averaged, figures
from bench.engine.real import Rig, furthest
from bench.engine.traces import LOADS, MIXES, burst, poisson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.engine.traces import Ask

# The first strategy moves on by this many places at the next trace, so that rivals do not always
# follow each other.
STRIDE = 3


def run(jobs: int, seeds: int, size: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Render traces of every mix at every load under each strategy."""
    torch.set_num_threads(1)  # processor time also counts threads that wait for one another
    stage = Rig.of_scenes(size)
    alone_s = {rows: stage.serial_s(10, rows) / 10 for rows in (1, 2)}
    say(f"a step alone takes {alone_s[2] * 1e3:.0f} ms with guidance")
    runs = []
    for mix in MIXES:
        for load in LOADS:
            traces = [_trace(mix, load, jobs, seed, alone_s) for seed in range(seeds)]
            strategies = render_all(
                stage, traces, lambda text, at=f"{mix}, load {load}": say(f"{at}, {text}")
            )
            runs.append({"mix": mix, "load": load, "strategies": strategies})
    about = {"jobs": jobs, "seeds": seeds, "size": size, "step_s": alone_s[2], "rotated": True}
    return about | {"runs": runs}


def _trace(
    mix: str, load: float | str, jobs: int, seed: int, alone_s: Mapping[int, float]
) -> Sequence[Ask]:
    if isinstance(load, str):
        return burst(jobs, mix, seed)
    return poisson(jobs, load, mix, seed, lambda ask: ask.steps * alone_s[ask.rows])


def render_all(
    stage: Rig, traces: Sequence[Sequence[Ask]], say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Return each strategy's figures, and how far its pixels are from the first one's.

    Each trace begins with another strategy, so that a slow hour of the machine does not always meet
    the same one.
    """
    strategies = list(stage.strategies)
    runs: dict[str, list[dict[str, float]]] = {strategy: [] for strategy in strategies}
    worst: dict[str, int] = dict.fromkeys(strategies, 0)
    for seed, trace in enumerate(traces):
        pixels = {}
        first = seed * STRIDE % len(strategies)
        for strategy in strategies[first:] + strategies[:first]:
            runs[strategy].append(figures(trace, stage.strategies[strategy](trace)))
            pixels[strategy] = stage.pixels
            say(f"seed {seed}, {strategy}: mean {runs[strategy][-1]['mean_s']:.2f} s")
        for strategy in strategies:
            worst[strategy] = max(
                worst[strategy], furthest(pixels[strategies[0]], pixels[strategy])
            )
    return {
        strategy: averaged(each) | {"distance": worst[strategy]} for strategy, each in runs.items()
    }
