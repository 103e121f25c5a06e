"""The arms on this machine's processor, in processor time: each renders every trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.engine.measure import averaged, figures
from bench.engine.real import Stage, furthest
from bench.engine.traces import BURST, burst, poisson

if TYPE_CHECKING:
    from collections.abc import Callable

LOADS: tuple[float | str, ...] = (0.5, 1.5, BURST)
MIX = "4-4-4-50"


def run(jobs: int, seeds: int, size: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Render the traces under each arm, interleaved, so that all meet the same disturbances."""
    stage = Stage(size)
    alone_s = {rows: stage.serial_s(10, rows) / 10 for rows in (1, 2)}
    say(f"a step alone takes {alone_s[2] * 1e3:.0f} ms with guidance")
    found = []
    for load in LOADS:
        runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in stage.arms}
        worst: dict[str, int] = dict.fromkeys(stage.arms, 0)
        for seed in range(seeds):
            trace = (
                burst(jobs, MIX, seed)
                if isinstance(load, str)
                else poisson(jobs, load, MIX, seed, lambda ask: ask.steps * alone_s[ask.rows])
            )
            reference = None
            for arm, render in stage.arms.items():
                runs[arm].append(figures(trace, render(trace)))
                reference = reference or stage.pixels
                worst[arm] = max(worst[arm], furthest(reference, stage.pixels))
                say(f"load {load}, seed {seed}, {arm}: mean {runs[arm][-1]['mean_s']:.2f} s")
        arms = {arm: averaged(each) | {"distance": worst[arm]} for arm, each in runs.items()}
        found.append({"mix": MIX, "load": load, "arms": arms})
    return {"jobs": jobs, "seeds": seeds, "size": size, "step_s": alone_s[2], "runs": found}
