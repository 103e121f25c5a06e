"""LoadedModel: its tasks, and its views for jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import diffusers
import pytest
import torch

from tests.unit.workers.engine import tiny_pipelines
from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    finished,
    picture,
    request,
    run_until_idle,
    stock_pixels,
)
from workers.engine.request import BadRequest, EngineError
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from workers.pipelines.model import LoadedModel


def test_a_model_with_a_small_autoencoder_renders(models: dict[str, LoadedModel]) -> None:
    """With three latent channels it has text-to-image and image-to-image, but not inpainting."""
    torch.manual_seed(5)
    pipeline = tiny_pipelines.stable_diffusion()
    tiny = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=3,
    )
    pipeline.register_modules(vae=tiny, unet=tiny_pipelines._unet(16, channels=3))
    model = wrap(pipeline, name="sd")
    assert set(model.tasks) == {"text-to-image", "image-to-image"}
    engine = engine_of({"sd": model})
    asked = [request("text"), request("image", image=picture(1), strength=0.5)]
    for one in asked:
        engine.add(one)
    outcomes = run_until_idle(engine)
    for one in asked:
        assert distance(outcomes[one.id], stock_pixels(pipeline, models["sd"], one)) <= 1
    with pytest.raises(BadRequest, match="cannot do inpainting"):
        engine.add(request("mask", image=picture(1), mask=picture(1, "L")))


def test_an_image_of_another_size_is_scaled_to_the_request(
    models: dict[str, LoadedModel],
) -> None:
    """Width and height are those of the request, for input pictures of any size."""
    engine = engine_of(models)
    engine.add(request("a", image=picture(1, size=(50, 30)), width=24, height=16))
    assert finished(run_until_idle(engine)["a"]).pixels[0].shape == (16, 24, 3)


def test_a_pipeline_of_no_known_family_is_refused() -> None:
    """Loading a pipeline without a prompt fails with the name of its class."""
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(4,), down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",), norm_num_groups=2,
    )  # fmt: skip
    pipeline = diffusers.DDPMPipeline(unet=unet, scheduler=diffusers.DDPMScheduler())
    with pytest.raises(EngineError, match="DDPMPipeline"):
        wrap(pipeline, name="ddpm")


def test_a_view_does_not_change_the_loaded_pipeline(models: dict[str, LoadedModel]) -> None:
    """Each job has its own scheduler; the model's scheduler is never stepped."""
    model = models["sd"]
    first = model.view(request("a", num_inference_steps=3)).pipeline
    second = model.view(request("b", num_inference_steps=9)).pipeline
    assert len(first.scheduler.timesteps) == 3
    assert len(second.scheduler.timesteps) == 9
    assert first.scheduler is not model.schedulers[None]
    assert first.unet is second.unet


def test_a_view_called_outside_the_engine_is_a_plain_pipeline(
    stock: dict[str, Any], models: dict[str, LoadedModel]
) -> None:
    """Outside the engine the proxies do not park, but run their modules at once."""
    asked = request("a", scheduler="ddim")
    pixels = models["sd"].view(asked).render()
    expected = stock_pixels(stock["sd"], models["sd"], asked)[0]
    assert (pixels[0] == expected).all()
