"""Full-size models with random weights, and miniatures to try the programs on a processor."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import diffusers
import torch
import transformers
from transformers import CLIPTextConfig, CLIPTokenizer

from app.config.repository import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable

TOKENIZER = REPOSITORY / "models" / "scenes" / "tokenizer"
"""Random weights work with any tokenizer."""
CLIP_TOKENS, T5_TOKENS = 77, 512


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of the models: that of SDXL base and FLUX.1, or a miniature."""

    channels: tuple[int, int, int]
    depth: tuple[int, int, int]
    heads: tuple[int, int, int]
    text: tuple[tuple[int, int, int], tuple[int, int, int]]
    """Width, layers and heads of the two text encoders."""
    decoder: tuple[int, ...]
    flux: tuple[tuple[str, Any], ...]
    """Parameters that differ from the defaults of the class."""

    @property
    def text_width(self) -> int:
        """The width of the denoiser's cross-attention: that of both encoders together."""
        return self.text[0][0] + self.text[1][0]


FULL = Scale(
    channels=(320, 640, 1280),
    depth=(1, 2, 10),
    heads=(5, 10, 20),
    text=((768, 12, 12), (1280, 32, 20)),
    decoder=(128, 256, 512, 512),
    flux=(),
)
"""stable-diffusion-xl-base-1.0 and FLUX.1-schnell, from their published configurations."""
MINIATURE = Scale(
    channels=(32, 32, 64),
    depth=(1, 1, 1),
    heads=(2, 2, 4),
    text=((32, 2, 2), (64, 2, 2)),
    decoder=(32, 32, 32, 32),
    flux=(
        ("num_layers", 1),
        ("num_single_layers", 1),
        ("attention_head_dim", 16),
        ("num_attention_heads", 2),
        ("axes_dims_rope", (4, 6, 6)),
        ("joint_attention_dim", 32),
        ("pooled_projection_dim", 32),
    ),
)


def on(device: str, dtype: torch.dtype, build: Callable[[], Any]) -> Any:
    """Build on the device in this format, without a copy in the host's memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return build()
    finally:
        torch.set_default_dtype(before)


def unet(scale: Scale) -> diffusers.UNet2DConditionModel:
    """Build the denoiser of SDXL."""
    return diffusers.UNet2DConditionModel(
        sample_size=128,
        block_out_channels=scale.channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=scale.depth,
        attention_head_dim=scale.heads,
        cross_attention_dim=scale.text_width,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=6 * 256 + scale.text[1][0],
    ).eval()


def flux(scale: Scale) -> diffusers.FluxTransformer2DModel:
    """Build the denoiser of Flux: 12 billion parameters in full size."""
    return diffusers.FluxTransformer2DModel(**dict(scale.flux)).eval()


@functools.cache
def sdxl(device: str, dtype: torch.dtype, scale: Scale) -> diffusers.StableDiffusionXLPipeline:
    """Build the whole pipeline of SDXL, once."""
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=CLIP_TOKENS)
    first, second = (_clip_config(tokenizer, *size) for size in scale.text)

    def build() -> dict[str, Any]:
        return {
            "unet": unet(scale),
            "text_encoder": transformers.CLIPTextModel(first).eval(),
            "text_encoder_2": transformers.CLIPTextModelWithProjection(second).eval(),
            "vae": _autoencoder(scale),
        }

    pipeline = diffusers.StableDiffusionXLPipeline(
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
        **on(device, dtype, build),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def small_decoder(device: str, dtype: torch.dtype) -> diffusers.AutoencoderTiny:
    """Build a decoder of TAESD's size."""
    return on(device, dtype, lambda: diffusers.AutoencoderTiny().eval())


def _autoencoder(scale: Scale) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=scale.decoder,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=1024,
        scaling_factor=0.13025,
        force_upcast=False,
    ).eval()


def _clip_config(tokenizer: CLIPTokenizer, width: int, layers: int, heads: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=CLIP_TOKENS,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
