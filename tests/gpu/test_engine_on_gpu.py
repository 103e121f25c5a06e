"""The engine on an accelerator: tiny models, so it fits beside anything."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.unit.engine.alone import (
    distance,
    engine_of,
    picture,
    request,
    run_until_idle,
    stock_pixels,
)
from tests.unit.engine.families import FAMILIES
from workers.engine.request import Finished
from workers.pipelines.model import wrap
from workers.pipelines.schedulers import DIFFUSION, FLOW

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_equals_alone_on_the_device(family: str) -> None:
    """Every scheduler and kind of work in one mixed run is within 1 of 255 of the lone picture."""
    stock: Any = FAMILIES[family]().to("cuda")
    model = wrap(stock, name=family)
    mask = picture(2, "L").point(lambda level: 255 if level > 127 else 0)
    asked = []
    for name in DIFFUSION if family in ("sd", "sdxl") else FLOW:
        asked += [
            request(f"{name} text", family, scheduler=name),
            request(f"{name} image", family, scheduler=name, image=picture(1), strength=0.6),
            request(f"{name} mask", family, scheduler=name, image=picture(1), mask=mask),
        ]
    engine = engine_of({family: model}, max_rows=16)
    for one in asked:
        engine.add(one)
    outcomes = run_until_idle(engine)
    for one in asked:
        finished = outcomes[one.id]
        assert isinstance(finished, Finished), finished
        assert distance(finished, stock_pixels(stock, model, one)) <= 1, one.id


def test_memory_that_ends_fails_one_job_and_not_its_mates() -> None:
    """A request far beyond the device's memory fails with `out_of_memory`; the rest finish."""
    model = wrap(FAMILIES["sd"]().to("cuda"), name="sd")
    engine = engine_of({"sd": model})
    engine.add(request("huge", width=32768, height=32768, num_inference_steps=1))
    engine.add(request("small"))
    outcomes = run_until_idle(engine)
    assert outcomes["huge"].code == "out_of_memory"
    assert isinstance(outcomes["small"], Finished)
