"""A pipeline with random weights, of the shape and cost of `models/scenes`, if those are missing.

Its pictures are noise; its times are those of a model of this size.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TEXT_DIM = 128
TOKENS = 24


def write(folder: Path) -> Path:
    """Save the pipeline there in the diffusers layout. Return the folder."""
    import torch  # noqa: PLC0415 - takes seconds, and most runs have a model
    from diffusers import (  # noqa: PLC0415
        AutoencoderTiny,
        DPMSolverMultistepScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # noqa: PLC0415

    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=64, hidden_size=TEXT_DIM, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=TOKENS, bos_token_id=0, eos_token_id=1,
        pad_token_id=1,
    )  # fmt: skip
    symbols = ["<|startoftext|>", "<|endoftext|>", *string.ascii_lowercase]
    symbols += [f"{letter}</w>" for letter in string.ascii_lowercase]
    vocabulary = {symbol: place for place, symbol in enumerate(symbols)}
    StableDiffusionPipeline(
        unet=UNet2DConditionModel(
            sample_size=16, in_channels=4, out_channels=4, block_out_channels=(96, 128, 160),
            layers_per_block=1, cross_attention_dim=TEXT_DIM, attention_head_dim=(3, 4, 5),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=16,
        ),
        vae=AutoencoderTiny(
            encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4
        ),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS),
        scheduler=DPMSolverMultistepScheduler(
            beta_schedule="linear", prediction_type="v_prediction", timestep_spacing="trailing",
            steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder
