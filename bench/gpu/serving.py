"""Serving: strategies compared, a single job's overhead, reproducibility and latency."""

from __future__ import annotations

import functools
import random
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.engine.cpu import render_all
from bench.engine.real import Rig
from bench.engine.simulate import MAX_ROWS
from bench.engine.traces import Ask, burst, poisson
from bench.gpu import random_models
from workers.engine import policy
from workers.engine.engine import Engine
from workers.engine.request import Finished, Request
from workers.images.encode import encode
from workers.pipelines.loading import tune
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from workers.engine.request import Outcome
    from workers.pipelines.model import LoadedModel

NAME, GRAPHS = "sdxl", "graphs"
ROUNDS = 6
FORMATS = ("png", "webp", "jpeg")


def build_rig(
    size: int, device: str, dtype: torch.dtype, scale: random_models.Scale, *, channels_last: bool
) -> Rig:
    """Return a rig of SDXL with random weights; a further strategy replays CUDA graphs."""
    pipeline = random_models.sdxl(device, dtype, scale)
    tune(pipeline, channels_last=channels_last, attention="", compiled="")
    rig = Rig(size, pipeline, wrap(pipeline, name=NAME), time.perf_counter)
    rig.strategies[GRAPHS] = rig.engine(policy.choose, wrap(pipeline, name=NAME, graphs=True))
    return rig


def variants(rig: Rig, device: str, dtype: torch.dtype) -> dict[str, LoadedModel]:
    """Return the model in the variants whose latency is measured."""
    pipeline = rig.pipeline
    small = random_models.small_decoder(device, dtype)
    return {
        "own decoder": rig.model,
        "own decoder, graphs": wrap(pipeline, name=NAME, graphs=True),
        "small decoder, graphs": wrap(pipeline, name=NAME, graphs=True, decoder=small),
    }


def strategies(
    rig: Rig,
    mix: str,
    load: float | str,
    *,
    jobs: int,
    seeds: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Render `seeds` traces of a mix at a load under each strategy, on the wall clock."""
    step_s = {rows: rig.serial_s(10, rows) / 10 for rows in (1, 2)}
    progress(f"an unbatched step takes {step_s[2] * 1e3:.1f} ms with guidance")
    if isinstance(load, str):
        traces = [burst(jobs, mix, seed) for seed in range(seeds)]
    else:
        traces = [
            poisson(jobs, load, mix, seed, lambda ask: ask.steps * step_s[ask.rows])
            for seed in range(seeds)
        ]
    for trace in traces:
        rig.strategies[GRAPHS](trace)  # so that every size is captured
    rendered = render_all(rig, traces, lambda text: progress(f"{mix}, {load}, {text}"))
    return {"jobs": jobs, "seeds": seeds, "step_s": step_s[2], "strategies": rendered}


def warm(rig: Rig) -> None:
    """Run every number of rows once, so that libraries choose kernels and allocators grow."""
    for rows in range(1, MAX_ROWS + 1):
        rig.call([Ask(f"job {n}", 0.0, 1, 1) for n in range(rows)])
    trace = burst(8, "4-4-4-50", 0)
    for strategy in ("threads", "window", "ours"):
        rig.strategies[strategy]([replace(ask, steps=2) for ask in trace])


def single_job(rig: Rig, model: LoadedModel, steps: int = 20) -> dict[str, float]:
    """Time a single job through the engine against the bare pipeline, in pairs."""
    ask = Ask("job 0", 0.0, steps, 2)
    engine = Engine({NAME: model})
    contenders: dict[str, Callable[[], Any]] = {
        "bare": lambda: rig.call([ask]),
        "ours": lambda: run(engine, [rig.request(ask)]),
    }
    for contender in contenders.values():
        contender()
    pairs = []
    for n in range(ROUNDS):
        order = ("bare", "ours") if n % 2 else ("ours", "bare")
        pairs.append({name: _seconds(contenders[name]) for name in order})
    ratios = [pair["ours"] / pair["bare"] for pair in pairs]
    return {
        "ratio": statistics.median(ratios),
        "bare_s": statistics.median(pair["bare"] for pair in pairs),
        "rounds": ROUNDS,
        "steps": steps,
    }


def exact(rig: Rig, model: LoadedModel, mixes: int, steps: int = 6) -> dict[str, Any]:
    """Compare the bits of a reproducible request, single, among other jobs and resumed half-way.

    Also return the largest pixel difference, of 255, of the same request without the flag.
    """
    asked = replace(
        rig.request(Ask("job 0", 0.0, steps, 2)),
        id="asked",
        scheduler="euler_a",
        reproducible=True,
    )
    models = {NAME: model}
    truth = run(Engine(models), [asked])["asked"]
    plain = replace(asked, reproducible=False)
    plain_truth = run(Engine(models), [plain])["asked"]
    same, furthest = 0, 0
    for mix in range(mixes):
        draw = random.Random(mix)  # noqa: S311 - a trace, not a secret
        others = [
            rig.request(Ask(f"job {n}", 0.0, draw.randint(2, 8), draw.choice((1, 2))))
            for n in range(1, 6)
        ]
        flagged = [replace(other, reproducible=draw.random() < 0.5) for other in others]
        same += np.array_equal(run(Engine(models), [asked, *flagged], draw)["asked"], truth)
        pixels = run(Engine(models), [plain, *others], draw)["asked"]
        difference = pixels.astype(int) - plain_truth
        furthest = max(furthest, int(np.abs(difference).max()))
    return {
        "mixes": mixes,
        "same_bits": same,
        "resumed_same_bits": bool(np.array_equal(resumed(models, asked), truth)),
        "furthest_without_the_flag": furthest,
    }


def resumed(models: dict[str, Any], asked: Request) -> Any:
    """Return the picture of a job that was drained half-way and resumed in another engine."""
    engine = Engine(models)
    engine.add(asked)
    while engine.progress()[asked.id][0] < asked.num_inference_steps // 2:
        engine.step()
    [drained] = engine.drain()
    other = Engine(models)
    other.add(asked, drained.checkpoint)
    return _finish(other)[asked.id]


def latency(rig: Rig, model: LoadedModel, steps: Sequence[int], rounds: int) -> dict[str, float]:
    """Return the seconds of an unguided request from prompt to pixels, and of encoding those."""
    engine = Engine({NAME: model})
    medians: dict[str, float] = {}
    for count in steps:
        times = []
        for n in range(rounds + 2):  # two warm up; each prompt is new
            ask = replace(
                rig.request(Ask(f"job {n}", 0.0, count, 1)), prompt=f"a red circle {count} {n}"
            )
            began = time.perf_counter()
            pixels = run(engine, [ask])[ask.id]
            times.append(time.perf_counter() - began)
        medians[f"{count}_steps_s"] = statistics.median(times[2:])
    for name in FORMATS:
        encode_once = functools.partial(encode, pixels, name)
        medians[f"{name}_s"] = statistics.median(_seconds(encode_once) for _ in range(3))
    return medians


def run(
    engine: Engine, requests: Sequence[Request], draw: random.Random | None = None
) -> dict[str, Any]:
    """Return the pixels by job; with `draw` each job joins at a random step after the last one."""
    coming = list(requests)
    pixels: dict[str, Any] = {}
    while coming:
        engine.add(coming.pop(0))
        for _ in range(draw.randint(0, 3) if draw and coming else 0):
            pixels |= _pixels(engine.step())
    return pixels | _finish(engine)


def _finish(engine: Engine) -> dict[str, Any]:
    pixels: dict[str, Any] = {}
    while not engine.idle:
        pixels |= _pixels(engine.step())
    return pixels


def _pixels(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    pixels = {}
    for outcome in outcomes:
        if not isinstance(outcome, Finished):
            raise TypeError(f"expected a picture, got {outcome}")
        pixels[outcome.id] = outcome.pixels[0]
    return pixels


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
