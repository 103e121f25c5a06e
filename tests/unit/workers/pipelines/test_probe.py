"""Probe: models that mix the rows of a batch are detected and served unbatched."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import pytest
import torch

from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    request,
    run_until_idle,
    stock_pixels,
)
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine.request import Finished
from workers.pipelines import probe
from workers.pipelines.model import wrap
from workers.pipelines.probe import batches

if TYPE_CHECKING:
    from workers.engine.request import Request
    from workers.pipelines.model import LoadedModel


class Mixing(diffusers.UNet2DConditionModel):  # type: ignore[misc]  # no types
    """A denoiser that depends on the whole batch, like batch norm in training mode."""

    @functools.wraps(diffusers.UNet2DConditionModel.forward)  # pipelines inspect the signature
    def forward(self, sample: Any, *args: Any, **kwargs: Any) -> Any:
        """Scale by the standard deviation of the rows."""
        return super().forward(sample / (1 + sample.std(dim=0)), *args, **kwargs)


def mixing() -> Any:
    """Return a pipeline with this denoiser."""
    pipeline = FAMILIES["sd"]()
    pipeline.unet.__class__ = Mixing
    return pipeline


@pytest.mark.parametrize("family", FAMILIES)
def test_stock_pipelines_can_be_batched(family: str, models: dict[str, LoadedModel]) -> None:
    """The probe accepts every family."""
    assert batches(models[family])


def test_a_model_that_mixes_its_rows_is_detected() -> None:
    """Its batched pictures differ from the unbatched ones."""
    assert not batches(wrap(mixing(), name="sd"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_in_half_precision_is_accepted_and_mixing_is_not(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few pixels with large differences count in fp32 only; mixed rows always count."""
    model = wrap(FAMILIES["sd"]().to(dtype), name="sd")
    render = probe._render

    def rounded(model: LoadedModel, asked: list[Request]) -> list[Any]:
        pictures = render(model, asked)
        if len(asked) == 2:
            for picture in pictures:
                picture[0, 0] = np.where(picture[0, 0] > 127, picture[0, 0] - 9, picture[0, 0] + 9)
        return pictures

    monkeypatch.setattr(probe, "_render", rounded)
    assert batches(model) is (dtype == torch.bfloat16)
    assert not batches(wrap(mixing().to(dtype), name="sd"))


def test_a_model_that_cannot_be_batched_is_served_one_at_a_time() -> None:
    """Its jobs run one after the other, share no forward, and get the stock picture."""
    pipeline = mixing()
    model = wrap(pipeline, name="sd", batched=False)
    engine = engine_of({"sd": model})
    asked = [request(str(seed), seed=seed) for seed in range(3)]
    for one in asked:
        engine.add(one)
    while not engine.idle:
        assert len(engine._in_flight) <= 1
        for outcome in engine.step():
            assert isinstance(outcome, Finished), outcome
            expected = stock_pixels(pipeline, model, asked[int(outcome.id)])
            assert distance(outcome, expected) <= 1
    assert engine.stats.mean_rows == 2


class Unknown(diffusers.StableDiffusionPipeline):  # type: ignore[misc]  # no types
    """A pipeline class that is not in diffusers' Auto classes."""


def test_a_pipeline_of_an_unknown_family_serves_text_to_image() -> None:
    """Any pipeline that takes a prompt works, and is batched if the probe accepts it."""
    parts = FAMILIES["sd"]().components
    model = wrap(Unknown(**parts, requires_safety_checker=False), name="sd")
    assert set(model.tasks) == {"text-to-image"}
    assert batches(model)
    engine = engine_of({"sd": model})
    engine.add(request("a"))
    assert isinstance(run_until_idle(engine)["a"], Finished)
