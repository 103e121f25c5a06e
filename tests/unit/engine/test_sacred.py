"""The sacred test: a batched result equals the same request alone through the stock pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.engine.alone import (
    distance,
    engine_of,
    picture,
    request,
    run_until_idle,
    stock_pixels,
)
from workers.engine.request import Finished, Request
from workers.engine.schedulers import DIFFUSION, FLOW

if TYPE_CHECKING:
    from workers.engine.engine import Engine
    from workers.engine.pipelines import LoadedModel

UNETS = ("sd", "sdxl")
TRANSFORMERS = ("sd3", "flux")
MATRIX = [
    *((family, name) for family in UNETS for name in DIFFUSION),
    *((family, name) for family in TRANSFORMERS for name in FLOW),
]

MIXED = [
    *((family, name) for family in UNETS for name in ("ddim", "euler_a", "heun", "lcm")),
    *((family, "flow_euler") for family in TRANSFORMERS),
]


def render_joining(engine: Engine, asked: list[Request], ticks: int) -> dict[str, Any]:
    """Add one request after another, some ticks apart, and render them all."""
    outcomes = {}
    for late in asked:
        engine.add(late)
        for _ in range(ticks):
            outcomes |= {outcome.id: outcome for outcome in engine.step()}
    return outcomes | run_until_idle(engine)


def assert_as_alone(
    asked: list[Request], outcomes: dict[str, Any], pipeline: Any, model: LoadedModel
) -> None:
    """Compare each picture with the stock pipeline's."""
    for one in asked:
        finished = outcomes[one.id]
        assert isinstance(finished, Finished), finished
        assert distance(finished, stock_pixels(pipeline, model, one)) <= 1, one.id


@pytest.mark.parametrize(("family", "scheduler"), MATRIX)
def test_strangers_who_join_midway_change_no_picture(
    family: str, scheduler: str, stock: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """Whoever joins, at whatever step, each picture is within 1 of 255 of the lone one."""
    other = "euler" if family in UNETS else None
    asked = [
        request("a", family, scheduler=scheduler, num_inference_steps=4),
        request("b", family, scheduler=scheduler, prompt="blue dog", seed=3, num_images=2),
        request("c", family, scheduler=other, num_inference_steps=6, negative_prompt="grey"),
        request("d", family, scheduler=scheduler, guidance_scale=1.0, num_inference_steps=3),
    ]
    engine = engine_of(models)
    outcomes = render_joining(engine, asked, ticks=3)
    assert engine.stats.mean_rows > 2
    assert_as_alone(asked, outcomes, stock[family], models[family])


@pytest.mark.parametrize(("family", "scheduler"), MIXED)
def test_kinds_of_work_share_a_forward(
    family: str, scheduler: str, stock: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """Text-to-image, image-to-image and inpainting in one mixed run each equal the lone picture."""
    same: dict[str, Any] = {"scheduler": scheduler, "num_inference_steps": 5}
    mask = picture(2, "L").point(lambda level: 255 if level > 127 else 0)
    asked = [
        request("inpaint", family, image=picture(1), mask=mask, strength=0.9, num_images=2, **same),
        request("image", family, image=picture(3), strength=0.6, num_images=2, **same),
        request("text", family, **same),
    ]
    engine = engine_of(models)
    outcomes = render_joining(engine, asked, ticks=0)
    assert engine.stats.mean_rows > (2 if family == "flux" else 4)
    assert_as_alone(asked, outcomes, stock[family], models[family])


def test_the_pictures_are_far_apart(models: dict[str, LoadedModel]) -> None:
    """Another prompt, seed or guidance is another picture, so that a mix-up cannot go unseen."""
    for family in models:
        engine = engine_of(models)
        engine.add(request("a", family))
        engine.add(request("prompt", family, prompt="zz top", guidance_scale=9.0))
        engine.add(request("seed", family, seed=8))
        outcomes = run_until_idle(engine)
        for other in ("prompt", "seed"):
            assert distance(outcomes["a"], outcomes[other].pixels) > 4, (family, other)
