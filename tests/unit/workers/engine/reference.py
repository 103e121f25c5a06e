"""Requests for the tiny models, and reference pictures by the stock pipelines."""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.pipelines.auto_pipeline import (
    AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    AUTO_INPAINT_PIPELINES_MAPPING,
    AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
)
from PIL import Image

from bench.engine.simulate import without_cap
from workers.engine.engine import Engine
from workers.engine.request import Failed, Finished, Request

if TYPE_CHECKING:
    from workers.engine.request import Outcome
    from workers.pipelines.model import LoadedModel

FAMILY_KEYS = {
    "sd": "stable-diffusion",
    "sdxl": "stable-diffusion-xl",
    "sd3": "stable-diffusion-3",
    "flux": "flux",
}


def request(job: str, model: str = "sd", **fields: Any) -> Request:
    """Return a request for one small picture; `fields` replace the defaults."""
    defaults: dict[str, Any] = {
        "prompt": "a red circle",
        "width": 16,
        "height": 16,
        "num_inference_steps": 4,
        "guidance_scale": 4.0,
        "seed": 7,
    }
    return Request(id=job, model=model, **{**defaults, **fields})


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (16, 16)) -> Image.Image:
    """Return a picture of random blocks."""
    shape = (4, 4, 3) if mode == "RGB" else (4, 4)
    blocks = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


def stock_pixels(pipeline: Any, model: LoadedModel, asked: Request) -> list[np.ndarray]:
    """Render `asked` as in the diffusers documentation, without any code of the engine.

    Each picture is rendered unbatched, from its own generator.
    """
    mapping = AUTO_TEXT2IMAGE_PIPELINES_MAPPING
    if asked.image is not None:
        inpaint = asked.mask is not None
        mapping = AUTO_INPAINT_PIPELINES_MAPPING if inpaint else AUTO_IMAGE2IMAGE_PIPELINES_MAPPING
    parts = {**pipeline.components}
    if asked.model == "sdxl":
        parts["force_zeros_for_empty_prompt"] = pipeline.config.force_zeros_for_empty_prompt
    own_pipeline = mapping[FAMILY_KEYS[asked.model]](**parts)
    own_pipeline.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = {
        "prompt": asked.prompt,
        "num_inference_steps": asked.num_inference_steps,
        "guidance_scale": asked.guidance_scale,
    }
    if asked.model != "flux":
        arguments["negative_prompt"] = asked.negative_prompt or None
    if asked.image is None or asked.mask is not None or asked.model in ("sd3", "flux"):
        arguments |= {"width": asked.width, "height": asked.height}
    if asked.image is not None:
        arguments |= {"image": asked.image}
    if asked.strength is not None:
        arguments["strength"] = asked.strength
    if asked.mask is not None:
        arguments["mask_image"] = asked.mask
    pixels = []
    for seed in range(asked.seed, asked.seed + asked.num_images):
        own_pipeline.scheduler = copy.deepcopy(model.schedulers[asked.scheduler])
        pictures = own_pipeline(
            **arguments, generator=torch.Generator("cpu").manual_seed(seed)
        ).images
        pixels += [np.asarray(image) for image in pictures]
    return pixels


def engine_of(models: dict[str, LoadedModel], max_rows: int = 8) -> Engine:
    """Return an engine whose forwards take one second, and whose policy batches all that fits."""
    clock = itertools.count().__next__
    return Engine(models, max_rows=max_rows, clock=clock, choose=without_cap)


def run_until_idle(engine: Engine) -> dict[str, Outcome]:
    """Step until the engine is idle; return the outcomes by job."""
    outcomes: list[Outcome] = []
    while not engine.idle:
        outcomes += engine.step()
    assert len({outcome.id for outcome in outcomes}) == len(outcomes), "a job ended twice"
    return {outcome.id: outcome for outcome in outcomes}


def finished(outcome: Outcome) -> Finished:
    """Assert that the job has its pictures."""
    assert isinstance(outcome, Finished), outcome
    return outcome


def failed(outcome: Outcome) -> Failed:
    """Assert that the job failed."""
    assert isinstance(outcome, Failed), outcome
    return outcome


def distance(outcome: Outcome, expected: list[np.ndarray]) -> int:
    """Return the largest difference of a pixel value, of 255, of a finished job."""
    pixels = finished(outcome).pixels
    assert len(pixels) == len(expected)
    return max(
        int(np.abs(ours.astype(int) - theirs.astype(int)).max())
        for ours, theirs in zip(pixels, expected, strict=True)
    )
