"""Loading: folders, precision, tiling and compilation. `tests/gpu` renders compiled models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import diffusers
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
from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.engine.request import Finished
from workers.pipelines import loading
from workers.pipelines.loading import COMPILED_SIZES, repeated, tune
from workers.pipelines.model import DENOISERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.pipelines.model import LoadedModel

BLOCKS = {
    "sd": {"BasicTransformerBlock"},
    "sdxl": {"BasicTransformerBlock"},
    "sd3": {"JointTransformerBlock"},
    "flux": {"FluxTransformerBlock", "FluxSingleTransformerBlock"},
}


def compiled(module: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the submodules that would be compiled at their next call."""
    return [part for part in module.modules() if part._compiled_call_impl is not None]


@pytest.fixture(autouse=True)
def _limits() -> Iterator[None]:
    """Reset torch's recompile limits around each test."""
    with torch._dynamo.config.patch(recompile_limit=8, accumulated_recompile_limit=256):
        yield


def compiled_parts(pipeline: Any) -> list[torch.nn.Module]:
    """Return all modules of a pipeline that would be compiled."""
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return [block for part in parts for block in compiled(part)]


def denoiser_of(pipeline: Any) -> Any:
    """Return the denoiser of a pipeline."""
    return next(getattr(pipeline, part) for part in DENOISERS if hasattr(pipeline, part))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_repeated_blocks_are_compiled(family: str) -> None:
    """`blocks` compiles all kinds of repeated blocks in every family, and nothing else."""
    pipeline: Any = FAMILIES[family]()
    tune(pipeline, channels_last=False, attention="", compiled="blocks")
    blocks = compiled_parts(pipeline)
    assert {type(block).__name__ for block in blocks} == BLOCKS[family]
    assert blocks == repeated(denoiser_of(pipeline))
    config = torch._dynamo.config
    assert config.recompile_limit == config.accumulated_recompile_limit == COMPILED_SIZES


@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_denoiser_is_compiled_in_one_piece(family: str) -> None:
    """`whole` compiles the denoiser, and nothing else."""
    pipeline: Any = FAMILIES[family]()
    tune(pipeline, channels_last=False, attention="", compiled="whole")
    assert compiled_parts(pipeline) == [denoiser_of(pipeline)]


def test_a_denoiser_without_repeated_blocks_is_compiled_whole() -> None:
    """`blocks` falls back to the whole denoiser."""

    class Plain(torch.nn.Module):
        pass

    class Pipeline:
        unet, components = Plain(), {"unet": None}

    tune(Pipeline, channels_last=False, attention="", compiled="blocks")
    assert compiled(Pipeline.unet) == [Pipeline.unet]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_folder_renders_as_the_pipeline_it_was_saved_from(
    family: str, stock: dict[str, Any], models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    """A plain diffusers folder of any family loads without a network."""
    stock[family].save_pretrained(tmp_path)
    loaded = loading.load(tmp_path, name=family)
    asked = request("a", family)
    engine = engine_of({family: loaded})
    engine.add(asked)
    assert (
        distance(run_until_idle(engine)["a"], stock_pixels(stock[family], models[family], asked))
        <= 1
    )


@pytest.mark.parametrize(
    ("dtype", "vae_dtype"), [(torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)]
)
def test_no_pipeline_casts_the_shared_autoencoder(
    dtype: torch.dtype, vae_dtype: torch.dtype, stock: dict[str, Any], tmp_path: Path
) -> None:
    """SDXL's overflows in fp16, so it stays in fp32; in bf16 it stays in bf16."""
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
    assert vae.dtype == vae_dtype
    assert not vae.config.force_upcast
    assert model.tasks["text-to-image"].unet.dtype == dtype


def test_tiled_decoding_is_that_of_the_stock_pipeline(tmp_path: Path) -> None:
    """With tiling, a picture larger than a tile equals diffusers' own tiled picture."""
    FAMILIES["sd"]().save_pretrained(tmp_path)
    model = loading.load(tmp_path, name="sd", vae_tiling=True)
    engine = engine_of({"sd": model})
    engine.add(request("a", width=64, height=48, reproducible=True))
    tiled = run_until_idle(engine)["a"]
    stock = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    stock.vae.enable_tiling()
    stock.set_progress_bar_config(disable=True)
    expected = stock(
        prompt="a red circle", num_inference_steps=4, guidance_scale=4.0, width=64, height=48,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images[0]  # fmt: skip
    assert distance(tiled, [np.asarray(expected)]) <= 1
    stock.vae.disable_tiling()
