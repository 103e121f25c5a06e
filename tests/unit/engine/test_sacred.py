"""The sacred test: a batched result equals the same request alone through the stock pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.engine.alone import distance, request, run_until_idle, stock_pixels
from workers.engine.engine import Engine
from workers.engine.request import Finished
from workers.engine.schedulers import DIFFUSION, FLOW

if TYPE_CHECKING:
    from workers.engine.pipelines import LoadedModel

MATRIX = [
    *((family, name) for family in ("sd", "sdxl") for name in DIFFUSION),
    *((family, name) for family in ("sd3", "flux") for name in FLOW),
]


@pytest.mark.parametrize(("family", "scheduler"), MATRIX)
def test_strangers_who_join_midway_change_no_picture(
    family: str, scheduler: str, stock: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """Whoever joins, at whatever step, each picture is within 1 of 255 of the lone one."""
    other = "euler" if family in ("sd", "sdxl") else None
    asked = [
        request("a", family, scheduler=scheduler, num_inference_steps=4),
        request("b", family, scheduler=scheduler, prompt="blue dog", seed=3, num_images=2),
        request("c", family, scheduler=other, num_inference_steps=6, negative_prompt="grey"),
        request("d", family, scheduler=scheduler, guidance_scale=1.0, num_inference_steps=3),
    ]
    engine = Engine(models, max_rows=8)
    outcomes = {}
    for late in asked:
        engine.add(late)
        for _ in range(3):
            outcomes |= {outcome.id: outcome for outcome in engine.step()}
    outcomes |= run_until_idle(engine)
    assert engine.stats.mean_rows > 2
    for one in asked:
        finished = outcomes[one.id]
        assert isinstance(finished, Finished), finished
        assert distance(finished, stock_pixels(stock[family], models[family], one)) <= 1
