"""What of a denoiser is compiled; that it draws the same is seen on a device, in `tests/gpu`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.unit.workers.engine.tiny_pipelines import FAMILIES
from workers.pipelines.loading import COMPILED_SIZES, repeated, tune
from workers.pipelines.model import DENOISERS

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCKS = {
    "sd": {"BasicTransformerBlock"},
    "sdxl": {"BasicTransformerBlock"},
    "sd3": {"JointTransformerBlock"},
    "flux": {"FluxTransformerBlock", "FluxSingleTransformerBlock"},
}


def compiled(module: torch.nn.Module) -> list[torch.nn.Module]:
    """Return which of its parts a compiler would take on when they are next called."""
    return [part for part in module.modules() if part._compiled_call_impl is not None]


@pytest.fixture(autouse=True)
def _limits() -> Iterator[None]:
    """Have torch's own limits before, and again after each test."""
    with torch._dynamo.config.patch(recompile_limit=8, accumulated_recompile_limit=256):
        yield


def found_in(pipeline: Any) -> list[torch.nn.Module]:
    """Return what of all its parts would be compiled."""
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return [block for part in parts for block in compiled(part)]


def denoiser_of(pipeline: Any) -> Any:
    """Return the part that is called at each step."""
    return next(getattr(pipeline, part) for part in DENOISERS if hasattr(pipeline, part))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_blocks_that_repeat_are_compiled(family: str) -> None:
    """Each kind of them is found, in every family; nothing else of the pipeline is touched."""
    pipeline: Any = FAMILIES[family]()
    tune(pipeline, channels_last=False, attention="", compiled="blocks")
    found = found_in(pipeline)
    assert {type(block).__name__ for block in found} == BLOCKS[family]
    assert found == repeated(denoiser_of(pipeline))
    config = torch._dynamo.config
    assert config.recompile_limit == config.accumulated_recompile_limit == COMPILED_SIZES


@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_denoiser_is_compiled_in_one_piece(family: str) -> None:
    """And nothing else."""
    pipeline: Any = FAMILIES[family]()
    tune(pipeline, channels_last=False, attention="", compiled="whole")
    assert found_in(pipeline) == [denoiser_of(pipeline)]


def test_a_denoiser_without_blocks_is_compiled_whole() -> None:
    """Rather than not at all."""

    class Plain(torch.nn.Module):
        pass

    class Pipeline:
        unet, components = Plain(), {"unet": None}

    tune(Pipeline, channels_last=False, attention="", compiled="blocks")
    assert compiled(Pipeline.unet) == [Pipeline.unet]
