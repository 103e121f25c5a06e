"""Every strategy renders every trace on this machine's processor, in processor time."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch

from bench.engine.measure import averaged, figures
from bench.engine.real import Rig, largest_difference
from bench.engine.traces import LOADS, MIXES, burst, poisson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.engine.traces import Ask

# The next trace begins with the strategy this many places further on. The alternatives are first
# in the list, the engine's policies after them, so that both kinds begin in turn.
STRIDE = 3


def run(jobs: int, seeds: int, size: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Render traces of every mix at every load under each strategy."""
    torch.set_num_threads(1)  # waiting threads would add to the processor time
    rig = Rig.of_scenes(size)
    step_s = {rows: rig.serial_s(10, rows) / 10 for rows in (1, 2)}
    progress(f"an unbatched step takes {step_s[2] * 1e3:.0f} ms with guidance")
    runs = []
    for mix in MIXES:
        for load in LOADS:
            traces = [_trace(mix, load, jobs, seed, step_s) for seed in range(seeds)]
            at = f"{mix}, load {load}"
            strategies = render_all(rig, traces, functools.partial(_with_prefix, progress, at))
            runs.append({"mix": mix, "load": load, "strategies": strategies})
    about = {"jobs": jobs, "seeds": seeds, "size": size, "step_s": step_s[2], "rotated": True}
    return about | {"runs": runs}


def _with_prefix(progress: Callable[[str], None], prefix: str, text: str) -> None:
    progress(f"{prefix}, {text}")


def _trace(
    mix: str, load: float | str, jobs: int, seed: int, step_s: Mapping[int, float]
) -> Sequence[Ask]:
    if isinstance(load, str):
        return burst(jobs, mix, seed)
    return poisson(jobs, load, mix, seed, lambda ask: ask.steps * step_s[ask.rows])


def render_all(
    rig: Rig, traces: Sequence[Sequence[Ask]], progress: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Return each strategy's figures, and its largest pixel difference from the first strategy.

    Each trace begins with another strategy, so that slow phases of the machine hit all of them.
    """
    strategies = list(rig.strategies)
    runs: dict[str, list[dict[str, float]]] = {strategy: [] for strategy in strategies}
    worst: dict[str, int] = dict.fromkeys(strategies, 0)
    for seed, trace in enumerate(traces):
        pixels = {}
        first = seed * STRIDE % len(strategies)
        for strategy in strategies[first:] + strategies[:first]:
            runs[strategy].append(figures(trace, rig.strategies[strategy](trace)))
            pixels[strategy] = rig.pixels
            progress(f"seed {seed}, {strategy}: mean {runs[strategy][-1]['mean_s']:.2f} s")
        for strategy in strategies:
            worst[strategy] = max(
                worst[strategy], largest_difference(pixels[strategies[0]], pixels[strategy])
            )
    return {
        strategy: averaged(each) | {"distance": worst[strategy]} for strategy, each in runs.items()
    }
