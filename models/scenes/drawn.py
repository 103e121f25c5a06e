"""The denoiser's own drawings with the true pictures: data for the decoder's last stage.

A small denoiser leaves outlines slightly ragged. The prompt determines where things are, so the
true picture is known, and the decoder can learn to draw the outline that was meant.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from models.scenes.captions import caption
from models.scenes.pool import render
from models.scenes.precision import autocast, fastest
from models.scenes.scene import Mix, sample_scene

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import StableDiffusionPipeline

SETTLED = Mix(motif=0.0, patterned=0.5, gradient=0.5)
"""Scenes whose picture the prompt determines: a motif may stand a cell to the left or right. Many
have a gradient: a denoiser leaves it uneven, and an untrained decoder draws blotches.
"""
FAR = 0.75
"""How far a cell's averages may be from the true ones, in latent units."""
WRONG = 0.04
"""Share of cells that may be wrong: beyond it the drawing shows something else."""
STEPS, BATCH = 8, 50
GUIDANCE = (1.5, 3.0)


def drawn(
    pipeline: StableDiffusionPipeline, count: int, seed: int, file: Path
) -> tuple[Tensor, Tensor] | None:
    """Return sampled latents (n, 4, 16, 16) and the true pictures (n, 3, 128, 128) in [-1, 1].

    `count` prompts are drawn, once for this file. The n drawings that show the right picture are
    kept. Returns None if there is none.
    """
    if not file.exists():
        dtype = fastest(pipeline.unet.device)
        torch.save(_draw(pipeline, count, seed, dtype), file)
    latents, pictures = torch.load(file, map_location=pipeline.unet.device)
    return (latents, pictures) if len(latents) else None


@torch.no_grad()
def _draw(
    pipeline: StableDiffusionPipeline, count: int, seed: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    rng, made, true = random.Random(seed), [], []
    device = pipeline.unet.device
    pipeline.set_progress_bar_config(disable=True)
    for start in tqdm(range(0, count, BATCH), desc="drawing", unit="batch"):
        scenes = [sample_scene(rng, SETTLED) for _ in range(min(BATCH, count - start))]
        pictures = render(scenes, rng, device)
        with autocast(device, dtype):
            latents = pipeline(
                [caption(scene, rng) for scene in scenes],
                num_inference_steps=STEPS,
                guidance_scale=rng.uniform(*GUIDANCE),
                generator=torch.Generator().manual_seed(seed + start),
                output_type="latent",
            ).images.float()
        wanted = pipeline.vae.encoder(pictures)
        wrong = (latents - wanted)[:, :3].abs().amax(1) > FAR
        kept = wrong.float().mean((1, 2)) <= WRONG
        made.append(latents[kept])
        true.append(pictures[kept])
    return torch.cat(made), torch.cat(true)
