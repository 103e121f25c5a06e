"""The sacred test: a batched result equals the unbatched one of the stock pipeline."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    finished,
    picture,
    request,
    run_until_idle,
    stock_pixels,
)
from workers.pipelines.schedulers import DIFFUSION, FLOW

if TYPE_CHECKING:
    from workers.engine.engine import Engine
    from workers.engine.request import Request
    from workers.pipelines.model import LoadedModel

UNETS = ("sd", "sdxl")
TRANSFORMERS = ("sd3", "flux")
MATRIX = [
    *((family, name) for family in UNETS for name in DIFFUSION),
    *((family, name) for family in TRANSFORMERS for name in FLOW),
]

MIXED = [("sd", "euler_a"), ("sdxl", "heun"), ("sd3", "flow_euler"), ("flux", "flow_euler")]

TASKS: dict[str, dict[str, Any]] = {
    "txt2img": {},
    "img2img": {"image": picture(3), "strength": 0.6},
    "inpaint": {
        "image": picture(1),
        "mask": picture(2, "L").point(lambda level: 255 if level > 127 else 0),
        "strength": 0.9,
    },
}


def render_joining(engine: Engine, asked: list[Request], ticks: int) -> dict[str, Any]:
    """Add the requests `ticks` steps apart, and render them all."""
    outcomes: dict[str, Any] = {}
    for late in asked:
        engine.add(late)
        for _ in range(ticks):
            outcomes |= {outcome.id: outcome for outcome in engine.step()}
    return outcomes | run_until_idle(engine)


def assert_as_unbatched(
    asked: list[Request], outcomes: dict[str, Any], pipeline: Any, model: LoadedModel
) -> None:
    """Assert that each picture is within 1 of 255 of the stock pipeline's."""
    for one in asked:
        assert distance(outcomes[one.id], stock_pixels(pipeline, model, one)) <= 1, one.id


@pytest.mark.parametrize(("family", "scheduler"), MATRIX)
def test_jobs_that_join_midway_change_no_picture(
    family: str, scheduler: str, stock: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """Jobs join at any step, and each picture is within 1 of 255 of the unbatched one."""
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
    assert_as_unbatched(asked, outcomes, stock[family], models[family])


@pytest.mark.parametrize(("family", "scheduler"), MIXED)
def test_all_tasks_share_a_forward(
    family: str, scheduler: str, stock: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """Text-to-image, image-to-image and inpainting in one batch equal the unbatched pictures."""
    same: dict[str, Any] = {"scheduler": scheduler, "num_inference_steps": 5}
    asked = [
        request("inpaint", family, num_images=2, **TASKS["inpaint"], **same),
        request("image", family, num_images=2, **TASKS["img2img"], **same),
        request("text", family, **same),
    ]
    engine = engine_of(models)
    outcomes = render_joining(engine, asked, ticks=0)
    assert engine.stats.mean_rows > (2 if family == "flux" else 4)
    assert_as_unbatched(asked, outcomes, stock[family], models[family])


@pytest.mark.parametrize(("family", "scheduler"), MATRIX)
def test_every_task_is_as_unbatched_among_others_that_join_at_any_step(
    family: str, scheduler: str, stock: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """All families, schedulers and tasks, with other jobs that join at random steps."""
    draw = random.Random(f"{family} {scheduler}")  # noqa: S311 - not a secret
    names = list(DIFFUSION if family in UNETS else FLOW)
    asked = [
        request(task, family, scheduler=scheduler, seed=draw.randrange(99), **fields)
        for task, fields in TASKS.items()
    ]
    others = [
        request(
            f"other {number}",
            family,
            scheduler=draw.choice(names),
            num_inference_steps=draw.randint(2, 6),
            guidance_scale=draw.choice([1.0, 3.0, 7.0]),
            prompt=draw.choice(["a blue dog", "zz top", "nine grey birds"]),
            **TASKS[draw.choice(list(TASKS))],
        )
        for number in range(3)
    ]
    queue = draw.sample([*asked, *others], 6)
    engine = engine_of(models, max_rows=16)
    outcomes: dict[str, Any] = {}
    for late in queue:
        engine.add(late)
        for _ in range(draw.randrange(4)):
            outcomes |= {outcome.id: outcome for outcome in engine.step()}
    outcomes |= run_until_idle(engine)
    assert_as_unbatched(asked, outcomes, stock[family], models[family])


def test_the_matrix_is_complete(models: dict[str, LoadedModel]) -> None:
    """Each family has all three tasks, and the matrix has all of its schedulers."""
    names = {
        "txt2img": "text-to-image", "img2img": "image-to-image", "inpaint": "inpainting"
    }  # fmt: skip
    for family, model in models.items():
        assert set(model.tasks) == {names[task] for task in TASKS}
        assert {name for name in model.schedulers if name} == {
            name for other, name in MATRIX if other == family
        }


def test_other_requests_give_other_pictures(models: dict[str, LoadedModel]) -> None:
    """Another prompt, seed or guidance changes the picture, so the tests notice mixed-up rows."""
    for family in models:
        engine = engine_of(models)
        engine.add(request("a", family))
        engine.add(request("prompt", family, prompt="zz top", guidance_scale=9.0))
        engine.add(request("seed", family, seed=8))
        outcomes = run_until_idle(engine)
        for other in ("prompt", "seed"):
            assert distance(outcomes["a"], finished(outcomes[other]).pixels) > 4, (family, other)
