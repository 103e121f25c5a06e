"""Reproducible mode: the same request gives the same bytes, whatever other jobs run."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    failed,
    picture,
    request,
    run_until_idle,
    stock_pixels,
)
from workers.engine.request import Cancelled, Finished
from workers.pipelines.schedulers import DIFFUSION, FLOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.engine.engine import Engine
    from workers.engine.request import Outcome, Request
    from workers.pipelines.model import LoadedModel

MIXES = 20
MASK = picture(2, "L").point(lambda level: 255 if level > 127 else 0)


def assert_same_bytes(one: Outcome, other: Outcome) -> None:
    """Assert that two outcomes have equal bytes."""
    assert isinstance(one, Finished), one
    assert isinstance(other, Finished), other
    assert len(one.pixels) == len(other.pixels)
    for ours, theirs in zip(one.pixels, other.pixels, strict=True):
        assert np.array_equal(ours, theirs)


def random_request(draw: random.Random, name: str, family: str) -> Request:
    """Return a random request that may share forwards."""
    schedulers = list(DIFFUSION if family in ("sd", "sdxl") else FLOW)
    kind: dict[str, Any] = draw.choice(
        [
            {},
            {"image": picture(draw.randrange(99)), "strength": 0.7},
            {"image": picture(draw.randrange(99)), "mask": MASK, "strength": 0.9},
        ]
    )
    return request(
        name,
        family,
        prompt=draw.choice(["blue dog", "zz", "a red circle"]),
        num_inference_steps=draw.randint(2, 7),
        guidance_scale=draw.choice([1.0, 3.0, 9.0]),
        seed=draw.randrange(99),
        num_images=draw.randint(1, 3),
        scheduler=draw.choice(schedulers),
        reproducible=draw.random() < 0.7,
        **kind,
    )


def render_with_others(
    engine: Engine, ours: Request, others: list[Request], draw: random.Random
) -> dict[str, Outcome]:
    """Add all requests at random steps, maybe cancel one, and render the rest."""
    arrivals = [*others, ours]
    draw.shuffle(arrivals)
    outcomes: list[Outcome] = []
    for one in arrivals:
        engine.add(one)
        for _ in range(draw.randrange(4)):
            outcomes += engine.step()
    if draw.random() < 0.5:
        engine.cancel(others[0].id)
    return {outcome.id: outcome for outcome in outcomes} | run_until_idle(engine)


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_twenty_mixes_give_the_same_bytes(family: str, models: dict[str, LoadedModel]) -> None:
    """In 20 random mixes of joining and cancelled jobs of all tasks, the picture keeps its bits."""
    for seed in range(MIXES // 4):
        draw = random.Random(f"{family} {seed}")  # noqa: S311 - a mix, not a secret
        ours = random_request(draw, "ours", family)
        ours = request("ours", family, **_fields(ours) | {"reproducible": True})
        engine = engine_of(models)
        engine.add(ours)
        unbatched = run_until_idle(engine)["ours"]
        others = [random_request(draw, f"other {n}", family) for n in range(draw.randint(1, 4))]
        engine = engine_of(models, max_rows=draw.choice([1, 5, 16]))
        outcomes = render_with_others(engine, ours, others, draw)
        assert_same_bytes(unbatched, outcomes["ours"])
        assert {type(outcome) for outcome in outcomes.values()} <= {Finished, Cancelled}


def _fields(asked: Request) -> dict[str, Any]:
    names = (
        "prompt", "num_inference_steps", "guidance_scale", "seed", "num_images", "scheduler",
        "image", "mask", "strength",
    )  # fmt: skip
    return {name: getattr(asked, name) for name in names}


def test_a_reproducible_picture_equals_the_stock_pipelines(
    stock: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """Running in fixed parts changes no pixel by more than 1 of 255."""
    asked = request("a", reproducible=True, num_images=3)
    engine = engine_of(models)
    engine.add(asked)
    outcome = run_until_idle(engine)["a"]
    assert distance(outcome, stock_pixels(stock["sd"], models["sd"], asked)) <= 1


def test_a_reproducible_job_shares_no_forward(
    models: dict[str, LoadedModel], hook_denoiser: Callable[[Callable[..., Any]], None]
) -> None:
    """Its forwards have only its own rows, at most four: a row's position can change its bits."""
    rows: list[int] = []
    hook_denoiser(lambda sample: rows.append(len(sample)))
    engine = engine_of(models)
    engine.add(request("a", reproducible=True, num_inference_steps=3))
    engine.add(request("b", reproducible=True, num_inference_steps=3, num_images=3))
    run_until_idle(engine)
    assert sorted(rows) == [2] * 6 + [4] * 3
    assert engine.stats.forwards["denoiser"] == 6  # three of one part, three of two parts


def test_equal_reproducible_jobs_take_turns(models: dict[str, LoadedModel]) -> None:
    """Although their calls are equal, each step runs one of them."""
    engine = engine_of(models)
    for name in "ab":
        engine.add(request(name, reproducible=True, num_inference_steps=4))
    before = {"a": 0, "b": 0}
    while not engine.idle:
        engine.step()
        done = {name: steps for name, (steps, _) in engine.progress().items()}
        assert sum(done[name] - before[name] for name in done) <= 1
        before |= done
    assert engine.stats.forwards["denoiser"] == 8


def test_a_reproducible_call_that_does_not_fit_is_not_split(
    models: dict[str, LoadedModel], hook_denoiser: Callable[[Callable[..., Any]], None]
) -> None:
    """A split would change its bits, so it fails with `out_of_memory`, and can be retried."""

    def refuse(sample: Any) -> None:
        if len(sample) > 1:
            raise torch.OutOfMemoryError("no room for two")

    hook_denoiser(refuse)
    engine = engine_of(models)
    engine.add(request("a", reproducible=True))
    engine.add(request("b"))
    outcomes = run_until_idle(engine)
    assert failed(outcomes["a"]).code == "out_of_memory"
    assert isinstance(outcomes["b"], Finished)
