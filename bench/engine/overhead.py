"""What the engine itself costs: one job alone beside the bare pipeline, and Python per job-step."""

from __future__ import annotations

import itertools
import statistics
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from bench.engine.real import Rig
from bench.engine.traces import Ask
from workers.engine.engine import Engine
from workers.engine.park import Proxy
from workers.engine.request import Request
from workers.engine.rows import ModuleMethod
from workers.pipelines.view import PipelineView

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 24
STEPS = 20


def run(say: Callable[[str], None]) -> dict[str, float]:
    """Return medians: the ratio of interleaved runs, and the seconds of Python for a job's step."""
    ratio = alone()
    say(f"alone through the engine / bare pipeline, processor time: {ratio:.3f}")
    per_step = {f"python_s_{jobs}": python_s(jobs) for jobs in (1, 16)}
    return {"ratio": ratio, "rounds": ROUNDS, **per_step}


def alone() -> float:
    """Compare the processor time of the bare pipeline and of the engine, in pairs, at 20 steps.

    Who goes first takes turns, for the second finds the caches warm.
    """
    stage = Rig.of_scenes(128)
    ask = Ask("job 0", 0.0, STEPS, 2)
    engine = Engine({"scenes": stage.model})

    def bare() -> None:
        stage.call([ask])

    def ours() -> None:
        engine.add(stage.request(ask))
        while not engine.idle:
            engine.step()

    for side in (bare, ours):
        side()
    pairs = []
    for n in range(ROUNDS):
        took_s = {side: _took_s(side) for side in ((bare, ours), (ours, bare))[n % 2]}
        pairs.append(took_s[ours] / took_s[bare])
    return statistics.median(pairs)


def _took_s(side: Callable[[], None]) -> float:
    began = time.process_time()
    side()
    return time.process_time() - began


class _Loop:
    """A pipeline that is nothing but its loop, around a denoiser that does nothing."""

    name = "loop"
    batched = True
    encoder_cache_bytes = 0

    def __init__(self) -> None:
        method = ModuleMethod.of("loop.unet.forward", "denoiser", torch.nn.Identity())
        self._unet = Proxy(method.run, {"forward": method})

    def __call__(self, steps: int, output_type: str) -> SimpleNamespace:
        del output_type
        sample = torch.zeros(2, 4)
        for _ in range(steps):
            sample = self._unet(sample)
        return SimpleNamespace(images=torch.zeros(1, 3, 2, 2))

    def view(self, request: Request) -> PipelineView:
        """Take the number of steps."""
        return PipelineView(self, {"steps": request.num_inference_steps}, request)


def python_s(jobs: int) -> float:
    """Return the seconds for a step of a job when `jobs` share each: all that is not the device's."""
    models: Any = {"loop": _Loop()}
    costs = []
    for _ in range(5):
        engine = Engine(models, max_rows=2 * jobs, clock=itertools.count().__next__)
        for n in range(jobs):
            engine.add(
                Request(
                    id=str(n), model="loop", prompt="", width=8, height=8, guidance_scale=1.0,
                    num_inference_steps=50, seed=n,
                )
            )  # fmt: skip
        began = time.process_time()
        while not engine.idle:
            engine.step()
        costs.append((time.process_time() - began) / (50 * jobs))
    return statistics.median(costs)
