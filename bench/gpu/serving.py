"""The engine on the device: next to its rivals, alone, bit by bit, and end to end."""

from __future__ import annotations

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
from bench.gpu import big
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


def stage(
    size: int, device: str, dtype: torch.dtype, scale: big.Scale, *, channels_last: bool
) -> Rig:
    """SDXL with random weights, stock and for the engine, with one more strategy: graphs."""
    pipeline = big.sdxl(device, dtype, scale)
    tune(pipeline, channels_last=channels_last, attention="", compiled="")
    here = Rig(size, pipeline, wrap(pipeline, name=NAME), time.perf_counter)
    here.strategies[GRAPHS] = here.engine(policy.choose, wrap(pipeline, name=NAME, graphs=True))
    return here


def variants(here: Rig, device: str, dtype: torch.dtype) -> dict[str, LoadedModel]:
    """The same pipeline in the configurations in which one request is timed."""
    pipeline = here.pipeline
    small = big.small_decoder(device, dtype)
    return {
        "own decoder": here.model,
        "own decoder, graphs": wrap(pipeline, name=NAME, graphs=True),
        "small decoder, graphs": wrap(pipeline, name=NAME, graphs=True, decoder=small),
    }


def strategies(
    here: Rig,
    mix: str,
    load: float | str,
    *,
    jobs: int,
    seeds: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Render traces of a mix at a load under each strategy, in wall-clock time."""
    alone_s = {rows: here.serial_s(10, rows) / 10 for rows in (1, 2)}
    say(f"a step alone takes {alone_s[2] * 1e3:.1f} ms with guidance")
    if isinstance(load, str):
        traces = [burst(jobs, mix, seed) for seed in range(seeds)]
    else:
        traces = [
            poisson(jobs, load, mix, seed, lambda ask: ask.steps * alone_s[ask.rows])
            for seed in range(seeds)
        ]
    for trace in traces:
        here.strategies[GRAPHS](trace)  # so that every size is captured
    rendered = render_all(here, traces, lambda text: say(f"{mix}, {load}, {text}"))
    return {"jobs": jobs, "seeds": seeds, "step_s": alone_s[2], "strategies": rendered}


def warm(here: Rig) -> None:
    """Run every number of rows once: libraries choose kernels then, and allocators grow."""
    for rows in range(1, MAX_ROWS + 1):
        here.call([Ask(f"job {n}", 0.0, 1, 1) for n in range(rows)])
    trace = burst(8, "4-4-4-50", 0)
    for strategy in ("threads", "window", "ours"):
        here.strategies[strategy]([replace(ask, steps=2) for ask in trace])


def alone(here: Rig, model: LoadedModel, steps: int = 20) -> dict[str, float]:
    """Return one job's wall-clock time through the engine over the bare pipeline's, in pairs."""
    ask = Ask("job 0", 0.0, steps, 2)
    engine = Engine({NAME: model})
    contenders = {
        "bare": lambda: here.call([ask]),
        "ours": lambda: run(engine, [here.request(ask)]),
    }
    for side in contenders.values():
        side()
    pairs = []
    for n in range(ROUNDS):
        order = ("bare", "ours") if n % 2 else ("ours", "bare")
        pairs.append({name: _took_s(contenders[name]) for name in order})
    ratios = [pair["ours"] / pair["bare"] for pair in pairs]
    return {
        "ratio": statistics.median(ratios),
        "bare_s": statistics.median(pair["bare"] for pair in pairs),
        "rounds": ROUNDS,
        "steps": steps,
    }


def exact(here: Rig, model: LoadedModel, mixes: int, steps: int = 6) -> dict[str, Any]:
    """Render one reproducible request among strangers, and resumed half-way, and compare the bits.

    Do the same without the flag: how far off is any pixel, of 255?
    """
    asked = replace(
        here.request(Ask("job 0", 0.0, steps, 2)),
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
        strangers = [
            here.request(Ask(f"job {n}", 0.0, draw.randint(2, 8), draw.choice((1, 2))))
            for n in range(1, 6)
        ]
        flagged = [replace(other, reproducible=draw.random() < 0.5) for other in strangers]
        same += np.array_equal(run(Engine(models), [asked, *flagged], draw)["asked"], truth)
        apart = run(Engine(models), [plain, *strangers], draw)["asked"].astype(int) - plain_truth
        furthest = max(furthest, int(np.abs(apart).max()))
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
    [left] = engine.drain()
    other = Engine(models)
    other.add(asked, left.checkpoint)
    return _finish(other)[asked.id]


def latency(here: Rig, model: LoadedModel, steps: Sequence[int], rounds: int) -> dict[str, float]:
    """Return the seconds of one unguided request, from prompt to pixels, and of encoding."""
    engine = Engine({NAME: model})
    found: dict[str, float] = {}
    for count in steps:
        times = []
        for n in range(rounds + 2):  # two warm up; each prompt is new
            ask = replace(
                here.request(Ask(f"job {n}", 0.0, count, 1)), prompt=f"a red circle {count} {n}"
            )
            began = time.perf_counter()
            pixels = run(engine, [ask])[ask.id]
            times.append(time.perf_counter() - began)
        found[f"{count}_steps_s"] = statistics.median(times[2:])
    for name in FORMATS:
        found[f"{name}_s"] = statistics.median(
            _took_s(lambda name=name: encode(pixels, name))
            for _ in range(3)  # type: ignore[misc]
        )
    return found


def run(
    engine: Engine, requests: Sequence[Request], draw: random.Random | None = None
) -> dict[str, Any]:
    """Return pixels by job; with `draw` each joins at a random step after the one before."""
    coming = list(requests)
    made: dict[str, Any] = {}
    while coming:
        engine.add(coming.pop(0))
        for _ in range(draw.randint(0, 3) if draw and coming else 0):
            made |= _pixels(engine.step())
    return made | _finish(engine)


def _finish(engine: Engine) -> dict[str, Any]:
    made: dict[str, Any] = {}
    while not engine.idle:
        made |= _pixels(engine.step())
    return made


def _pixels(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    for outcome in outcomes:
        if not isinstance(outcome, Finished):
            raise TypeError(f"{outcome} instead of a picture")
    return {outcome.id: outcome.pixels[0] for outcome in outcomes}


def _took_s(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
