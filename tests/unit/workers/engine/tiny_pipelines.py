"""Tiny pipelines with random weights, one per family, built without any download."""

from __future__ import annotations

import string
from typing import Any

import diffusers
import torch
import transformers
from transformers import CLIPTextConfig, CLIPTokenizer, T5Config, T5Tokenizer

TEXT_DIM = 16
TOKENS = 12


def stable_diffusion() -> diffusers.StableDiffusionPipeline:
    """Build Stable Diffusion: a UNet with text cross-attention."""
    torch.manual_seed(1)
    return diffusers.StableDiffusionPipeline(
        unet=_unet(cross_attention_dim=TEXT_DIM),
        vae=_autoencoder(latent_channels=4),
        text_encoder=_randomised(transformers.CLIPTextModel(_clip_config())),
        tokenizer=_clip_tokenizer(),
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> diffusers.StableDiffusionXLPipeline:
    """Build SDXL: a UNet with two text encoders and size conditions."""
    torch.manual_seed(2)
    return diffusers.StableDiffusionXLPipeline(
        unet=_unet(
            cross_attention_dim=2 * TEXT_DIM,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + TEXT_DIM,
        ),
        vae=_autoencoder(latent_channels=4),
        text_encoder=_randomised(transformers.CLIPTextModel(_clip_config())),
        text_encoder_2=_projected_text_encoder(),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
        add_watermarker=False,
    )


def stable_diffusion_3() -> diffusers.StableDiffusion3Pipeline:
    """Build SD3: a transformer with flow matching, guidance and three text encoders."""
    torch.manual_seed(3)
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=2 * TEXT_DIM,
            caption_projection_dim=16,
            pooled_projection_dim=2 * TEXT_DIM,
            out_channels=16,
        ),
        vae=_autoencoder(latent_channels=16, shift_factor=0.06),
        text_encoder=_projected_text_encoder(),
        text_encoder_2=_projected_text_encoder(),
        text_encoder_3=_t5(2 * TEXT_DIM),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        tokenizer_3=_t5_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def flux() -> diffusers.FluxPipeline:
    """Build Flux: a transformer with packed latents and distilled guidance."""
    torch.manual_seed(4)
    return diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=TEXT_DIM,
            pooled_projection_dim=TEXT_DIM,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
        vae=_autoencoder(latent_channels=4, shift_factor=0.06),
        text_encoder=_randomised(transformers.CLIPTextModel(_clip_config())),
        text_encoder_2=_t5(TEXT_DIM),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_t5_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_image_seq_len=16, max_image_seq_len=64
        ),
    )


FAMILIES = {
    "sd": stable_diffusion,
    "sdxl": sdxl,
    "sd3": stable_diffusion_3,
    "flux": flux,
}


def _unet(
    cross_attention_dim: int, channels: int = 4, **settings: Any
) -> diffusers.UNet2DConditionModel:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=4,
        cross_attention_dim=cross_attention_dim,
        **settings,
    )


def _autoencoder(latent_channels: int, **settings: Any) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=latent_channels,
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
        force_upcast=False,
        **settings,
    )


def _clip_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=64,
        hidden_size=TEXT_DIM,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=TEXT_DIM,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def _projected_text_encoder() -> transformers.CLIPTextModelWithProjection:
    return _randomised(transformers.CLIPTextModelWithProjection(_clip_config()))


def _t5(width: int) -> transformers.T5EncoderModel:
    config = T5Config(
        vocab_size=64, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    return _randomised(transformers.T5EncoderModel(config))


def _randomised(module: Any) -> Any:
    """Draw weights with a wide spread, so that two prompts give very different pictures."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


def _clip_tokenizer() -> CLIPTokenizer:
    symbols = ["<|startoftext|>", "<|endoftext|>"]
    symbols += list(string.ascii_lowercase) + [f"{letter}</w>" for letter in string.ascii_lowercase]
    vocabulary = {symbol: place for place, symbol in enumerate(symbols)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


def _t5_tokenizer() -> T5Tokenizer:
    symbols = ["<pad>", "</s>", "<unk>", "\u2581", *string.ascii_lowercase]
    vocabulary = [(symbol, -float(place)) for place, symbol in enumerate(symbols)]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=TOKENS)
