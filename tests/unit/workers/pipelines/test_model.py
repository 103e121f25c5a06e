"""Pipelines: folders load without a hub, and models do the tasks that they can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import diffusers
import pytest
import torch

from tests.unit.workers.engine import tiny_pipelines
from tests.unit.workers.engine.reference import (
    distance,
    engine_of,
    picture,
    request,
    run_until_idle,
    stock_pixels,
)
from workers.engine.request import BadRequest, EngineError, Finished
from workers.pipelines import loading
from workers.pipelines.model import wrap

if TYPE_CHECKING:
    from pathlib import Path

    from workers.pipelines.model import LoadedModel


@pytest.mark.parametrize("family", tiny_pipelines.FAMILIES)
def test_a_saved_folder_renders_as_the_pipeline_it_was_saved_from(
    family: str, stock: dict[str, Any], models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    """Loading takes a plain diffusers folder of any family, and no network."""
    stock[family].save_pretrained(tmp_path)
    loaded = loading.load(tmp_path, name=family)
    asked = request("a", family)
    engine = engine_of({family: loaded})
    engine.add(asked)
    finished = run_until_idle(engine)["a"]
    assert isinstance(finished, Finished)
    assert distance(finished, stock_pixels(stock[family], models[family], asked)) <= 1


def test_a_model_on_a_small_autoencoder_renders(models: dict[str, LoadedModel]) -> None:
    """An AutoencoderTiny with three latent channels does text and images, but no inpainting."""
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
    """Width and height are those asked for, whatever the picture that came."""
    engine = engine_of(models)
    engine.add(request("a", image=picture(1, size=(50, 30)), width=24, height=16))
    assert run_until_idle(engine)["a"].pixels[0].shape == (16, 24, 3)


def test_a_pipeline_of_no_known_family_is_refused() -> None:
    """What the engine cannot serve is named when it is loaded."""
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(4,), down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",), norm_num_groups=2,
    )  # fmt: skip
    pipeline = diffusers.DDPMPipeline(unet=unet, scheduler=diffusers.DDPMScheduler())
    with pytest.raises(EngineError, match="DDPMPipeline"):
        wrap(pipeline, name="ddpm")


def test_a_view_leaves_the_loaded_pipeline_alone(models: dict[str, LoadedModel]) -> None:
    """Each job has a scheduler of its own; the model's own is never stepped."""
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
    """Without anyone to park for, the proxies run their modules at once."""
    asked = request("a", scheduler="ddim")
    pixels = models["sd"].view(asked).render()
    expected = stock_pixels(stock["sd"], models["sd"], asked)[0]
    assert (pixels[0] == expected).all()


@pytest.mark.parametrize(
    ("dtype", "kept"), [(torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)]
)
def test_no_pipeline_casts_the_shared_autoencoder_to_and_fro(
    dtype: torch.dtype, kept: torch.dtype, stock: dict[str, Any], tmp_path: Path
) -> None:
    """SDXL's overflows in fp16, so that it stays in fp32; in bf16 it stays as it is."""
    stock["sdxl"].save_pretrained(tmp_path)
    config = tmp_path / "vae" / "config.json"
    config.write_text(config.read_text().replace('"force_upcast": false', '"force_upcast": true'))
    model = loading.load(tmp_path, name="sdxl", dtype=dtype)
    vae = model.tasks["text-to-image"].vae
    engine = engine_of({"sdxl": model})
    engine.add(request("text", "sdxl"))
    engine.add(request("image", "sdxl", image=picture(1), strength=0.5))
    outcomes = run_until_idle(engine)
    assert {type(outcome) for outcome in outcomes.values()} == {Finished}
    assert vae.dtype == kept
    assert not vae.config.force_upcast
    assert model.tasks["text-to-image"].unet.dtype == dtype
