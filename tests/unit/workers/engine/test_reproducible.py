"""Reproducible mode: the same request gives the same bytes, whoever else is there."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
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
    """Compare two outcomes bit by bit."""
    assert isinstance(one, Finished), one
    assert isinstance(other, Finished), other
    assert len(one.pixels) == len(other.pixels)
    for ours, theirs in zip(one.pixels, other.pixels, strict=True):
        assert np.array_equal(ours, theirs)


def stranger(draw: random.Random, name: str, family: str) -> Request:
    """Ask for anything at all that may share a forward."""
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


def render_in_a_crowd(
    engine: Engine, ours: Request, others: list[Request], draw: random.Random
) -> dict[str, Outcome]:
    """Add everyone at random ticks, cancel some, and render them all."""
    admission = [*others, ours]
    draw.shuffle(admission)
    outcomes: list[Outcome] = []
    for one in admission:
        engine.add(one)
        for _ in range(draw.randrange(4)):
            outcomes += engine.step()
    if draw.random() < 0.5:
        engine.cancel(others[0].id)
    return {outcome.id: outcome for outcome in outcomes} | run_until_idle(engine)


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_twenty_mixes_give_the_same_bytes(family: str, models: dict[str, LoadedModel]) -> None:
    """In 20 random mixes of joiners, leavers and kinds of work each picture keeps its bits."""
    for seed in range(MIXES // 4):
        draw = random.Random(f"{family} {seed}")  # noqa: S311 - a mix, not a secret
        ours = stranger(draw, "ours", family)
        ours = request("ours", family, **_fields(ours) | {"reproducible": True})
        engine = engine_of(models)
        engine.add(ours)
        alone = run_until_idle(engine)["ours"]
        others = [stranger(draw, f"other {n}", family) for n in range(draw.randint(1, 4))]
        engine = engine_of(models, max_rows=draw.choice([1, 5, 16]))
        outcomes = render_in_a_crowd(engine, ours, others, draw)
        assert_same_bytes(alone, outcomes["ours"])
        assert {type(end) for end in outcomes.values()} <= {Finished, Cancelled}


def _fields(asked: Request) -> dict[str, Any]:
    names = (
        "prompt", "num_inference_steps", "guidance_scale", "seed", "num_images", "scheduler",
        "image", "mask", "strength",
    )  # fmt: skip
    return {name: getattr(asked, name) for name in names}


def test_a_reproducible_picture_is_that_of_the_stock_pipeline(
    stock: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """Filling up changes no picture by more than 1 of 255."""
    asked = request("a", reproducible=True, num_images=3)
    engine = engine_of(models)
    engine.add(asked)
    finished = run_until_idle(engine)["a"]
    assert isinstance(finished, Finished)
    assert distance(finished, stock_pixels(stock["sd"], models["sd"], asked)) <= 1


def test_a_reproducible_job_shares_no_forward(
    models: dict[str, LoadedModel], hook_denoiser: Callable[[Callable[..., Any]], None]
) -> None:
    """Sizes follow from its own rows, four at most: an accelerator's bits depend on a row's place, too."""
    rows: list[int] = []
    hook_denoiser(lambda sample: rows.append(len(sample)))
    engine = engine_of(models)
    engine.add(request("a", reproducible=True, num_inference_steps=3))
    engine.add(request("b", reproducible=True, num_inference_steps=3, num_images=3))
    run_until_idle(engine)
    assert sorted(rows) == [2] * 6 + [4] * 3
    assert engine.stats.forwards["denoiser"] == 6  # each by a turn of its own, three of two parts


def test_equal_reproducible_jobs_take_turns(models: dict[str, LoadedModel]) -> None:
    """However well they would go together: a step is of one of them."""
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


def test_a_reproducible_call_that_does_not_fit_is_not_cut_smaller(
    models: dict[str, LoadedModel], hook_denoiser: Callable[[Callable[..., Any]], None]
) -> None:
    """Cut, it would have other bits: it fails with `out_of_memory`, and another attempt may find room."""

    def full(sample: Any) -> None:
        if len(sample) > 1:
            raise torch.OutOfMemoryError("no room for two")

    hook_denoiser(full)
    engine = engine_of(models)
    engine.add(request("a", reproducible=True))
    engine.add(request("b"))
    outcomes = run_until_idle(engine)
    assert outcomes["a"].code == "out_of_memory"
    assert isinstance(outcomes["b"], Finished)
