"""What of a denoiser is compiled; that it draws the same is seen on a device, in `tests/gpu`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.unit.engine.families import FAMILIES
from workers.pipelines.loading import COMPILED_SIZES, repeated, tune
from workers.pipelines.model import DENOISERS

BLOCKS = {
    "sd": {"BasicTransformerBlock"},
    "sdxl": {"BasicTransformerBlock"},
    "sd3": {"JointTransformerBlock"},
    "flux": {"FluxTransformerBlock", "FluxSingleTransformerBlock"},
}


def compiled(module: torch.nn.Module) -> list[torch.nn.Module]:
    """Return which of its parts a compiler would take on when they are next called."""
    return [part for part in module.modules() if part._compiled_call_impl is not None]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_blocks_that_repeat_are_compiled_or_the_whole_denoiser(family: str) -> None:
    """Each kind of block is found, in every family; nothing else of the pipeline is touched."""
    pipeline: Any = FAMILIES[family]()
    denoiser = next(getattr(pipeline, part) for part in DENOISERS if hasattr(pipeline, part))
    parts = (*pipeline.components.values(),)
    others = [part for part in parts if isinstance(part, torch.nn.Module) and part is not denoiser]
    tune(pipeline, channels_last=False, attention="", compiled="blocks")
    assert {type(part).__name__ for part in compiled(denoiser)} == BLOCKS[family]
    assert compiled(denoiser) == repeated(denoiser)
    assert not any(compiled(part) for part in others)
    assert torch._dynamo.config.recompile_limit == COMPILED_SIZES
    whole: Any = FAMILIES[family]()
    tune(whole, channels_last=False, attention="", compiled="whole")
    assert (
        len(compiled(next(getattr(whole, part) for part in DENOISERS if hasattr(whole, part)))) == 1
    )


def test_a_denoiser_without_blocks_is_compiled_whole() -> None:
    """Rather than not at all."""

    class Plain(torch.nn.Module):
        pass

    class Pipeline:
        unet, components = Plain(), {"unet": None}

    tune(Pipeline, channels_last=False, attention="", compiled="blocks")
    assert compiled(Pipeline.unet) == [Pipeline.unet]
