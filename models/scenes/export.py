"""Export: the stock `StableDiffusionPipeline` layout, in half precision."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from peft import get_peft_model_state_dict

from models.scenes.denoiser import build_scheduler

if TYPE_CHECKING:
    from torch import nn
    from transformers import CLIPTextModel, CLIPTokenizer


LARGE = 60_000
"""A ControlNet's tensors with more numbers than this are stored in 8 bits.

The small ones, its last layers among them, start at zero and hold numbers that 8 bits would round
away.
"""


def assemble(
    autoencoder: AutoencoderTiny,
    tokenizer: CLIPTokenizer,
    encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
) -> StableDiffusionPipeline:
    """Return the stock pipeline around the four parts."""
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Save in fp16 over the folder's content, each file whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            part.half()
        pipeline.save_pretrained(temporary)
        for config in Path(temporary).rglob("*.json"):
            _forget(config)
        for source in sorted(Path(temporary).rglob("*.*")):
            target = folder / source.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.chmod(0o644)
            source.replace(target)


def export_lora(unet: nn.Module, folder: Path) -> None:
    """Save the denoiser's adapter in fp16, in the form that `load_lora_weights` reads."""
    layers = {
        name: part.half()
        for name, part in get_peft_model_state_dict(unet, adapter_name="outline").items()
    }
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)


def export_controlnet(net: nn.Module, folder: Path) -> None:
    """Save a ControlNet with its large weights in 8-bit floats, which is exact enough for it.

    `from_pretrained(..., dtype=torch.float32)` of the stock class reads them. The net itself is
    changed to the saved values.
    """
    for weights in net.parameters():
        large = weights.ndim > 1 and weights.numel() > LARGE
        weights.data = weights.data.to(torch.float8_e4m3fn if large else torch.float16)
    net.save_pretrained(folder)  # type: ignore[operator]


def _forget(config: Path) -> None:
    """Remove the source paths of the parts, and a field that `AutoencoderTiny` warns of."""
    fields = json.loads(config.read_text())
    if isinstance(fields, dict) and fields.keys() & {"_name_or_path", "block_out_channels"}:
        fields.pop("_name_or_path", None)
        if fields.get("_class_name") == "AutoencoderTiny":
            fields.pop("block_out_channels", None)
        config.write_text(json.dumps(fields, indent=2) + "\n")
