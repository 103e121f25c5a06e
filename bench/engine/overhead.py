"""The engine's overhead: one job against the bare pipeline, and Python per step of a job."""

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


def run(progress: Callable[[str], None]) -> dict[str, float]:
    """Return medians: the ratio of interleaved runs, and the Python seconds per step of a job."""
    ratio = single_job_ratio()
    progress(f"one job, engine / bare pipeline, processor time: {ratio:.3f}")
    per_step = {f"python_s_{jobs}": python_s(jobs) for jobs in (1, 16)}
    return {"ratio": ratio, "rounds": ROUNDS, **per_step}


def single_job_ratio() -> float:
    """Compare the processor time of the engine and of the bare pipeline, in pairs, at 20 steps.

    They take turns in beginning, because the second one finds the caches warm.
    """
    rig = Rig.of_scenes(128)
    ask = Ask("job 0", 0.0, STEPS, 2)
    engine = Engine({"scenes": rig.model})

    def bare() -> None:
        rig.call([ask])

    def engine_run() -> None:
        engine.add(rig.request(ask))
        while not engine.idle:
            engine.step()

    for contender in (bare, engine_run):
        contender()
    ratios = []
    for n in range(ROUNDS):
        order = ((bare, engine_run), (engine_run, bare))[n % 2]
        times_s = {contender: _seconds(contender) for contender in order}
        ratios.append(times_s[engine_run] / times_s[bare])
    return statistics.median(ratios)


def _seconds(contender: Callable[[], None]) -> float:
    began = time.process_time()
    contender()
    return time.process_time() - began


class _Loop:
    """A pipeline with only a loop, around a denoiser that does nothing."""

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
        """Return a view that runs the requested steps."""
        return PipelineView(self, {"steps": request.num_inference_steps}, request)


def python_s(jobs: int) -> float:
    """Return the processor seconds per step of a job when `jobs` share each forward."""
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
