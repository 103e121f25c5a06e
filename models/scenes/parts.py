"""The four parts of the scenes pipeline: tokenizer, text encoder, autoencoder and denoiser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel

from models.scenes import autoencoder, denoiser, words

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import CLIPTextModel, CLIPTokenizer


@dataclass(frozen=True, slots=True)
class Parts:
    """The four parts of the pipeline, on one device."""

    tokenizer: CLIPTokenizer
    encoder: CLIPTextModel
    vae: AutoencoderTiny
    unet: UNet2DConditionModel

    @classmethod
    def new(cls, device: torch.device) -> Parts:
        """Return untrained parts."""
        tokenizer = words.build_tokenizer()
        encoder = words.build_encoder(tokenizer)
        return cls(tokenizer, encoder, autoencoder.build(), denoiser.build()).on(device)

    @classmethod
    def shipped(cls, folder: Path, device: torch.device) -> Parts:
        """Return the parts of an earlier model, to be trained further."""
        made = StableDiffusionPipeline.from_pretrained(
            folder, dtype=torch.float32, safety_checker=None
        )
        autoencoder.keep_averages(made.vae)
        return cls(made.tokenizer, made.text_encoder, made.vae, made.unet).on(device)

    def with_new_denoiser(self, device: torch.device) -> Parts:
        """Return the same words and autoencoder, with an untrained denoiser."""
        return replace(self, unet=denoiser.build()).on(device)

    def on(self, device: torch.device) -> Parts:
        """Return the same parts, moved to the device."""
        self.encoder.to(device)
        self.vae.to(device, memory_format=torch.channels_last)
        self.unet.to(device, memory_format=torch.channels_last)
        return self
