"""The arms on this machine's processor, in processor time: each renders every trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bench.engine.measure import averaged, figures
from bench.engine.real import Stage, furthest
from bench.engine.traces import LOADS, MIXES, burst, poisson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.engine.traces import Ask

# The arm that begins is so many further on at the next trace: rivals are apart, ours stand side by side.
STRIDE = 3


def run(jobs: int, seeds: int, size: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Render traces of every mix at every load under each arm."""
    torch.set_num_threads(1)  # processor time counts what threads wait for one another
    stage = Stage.of_scenes(size)
    alone_s = {rows: stage.serial_s(10, rows) / 10 for rows in (1, 2)}
    say(f"a step alone takes {alone_s[2] * 1e3:.0f} ms with guidance")
    runs = []
    for mix in MIXES:
        for load in LOADS:
            traces = [_trace(mix, load, jobs, seed, alone_s) for seed in range(seeds)]
            arms = render_all(
                stage, traces, lambda text, at=f"{mix}, load {load}": say(f"{at}, {text}")
            )
            runs.append({"mix": mix, "load": load, "arms": arms})
    about = {"jobs": jobs, "seeds": seeds, "size": size, "step_s": alone_s[2], "rotated": True}
    return about | {"runs": runs}


def _trace(
    mix: str, load: float | str, jobs: int, seed: int, alone_s: Mapping[int, float]
) -> Sequence[Ask]:
    if isinstance(load, str):
        return burst(jobs, mix, seed)
    return poisson(jobs, load, mix, seed, lambda ask: ask.steps * alone_s[ask.rows])


def render_all(
    stage: Stage, traces: Sequence[Sequence[Ask]], say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Each arm's figures, with how far its pixels are from the first's.

    Each trace begins with another arm, so that a slow hour of the machine is not always the same one's.
    """
    arms = list(stage.arms)
    runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
    worst: dict[str, int] = dict.fromkeys(arms, 0)
    for seed, trace in enumerate(traces):
        pixels = {}
        first = seed * STRIDE % len(arms)
        for arm in arms[first:] + arms[:first]:
            runs[arm].append(figures(trace, stage.arms[arm](trace)))
            pixels[arm] = stage.pixels
            say(f"seed {seed}, {arm}: mean {runs[arm][-1]['mean_s']:.2f} s")
        for arm in arms:
            worst[arm] = max(worst[arm], furthest(pixels[arms[0]], pixels[arm]))
    return {arm: averaged(each) | {"distance": worst[arm]} for arm, each in runs.items()}
