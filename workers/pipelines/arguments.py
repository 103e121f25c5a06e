"""Arguments: from a request to the keyword arguments of a pipeline call."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import DecompressionBombError, Resampling

from workers.engine.request import BadRequest

if TYPE_CHECKING:
    from PIL.Image import Image

    from workers.engine.request import Request

# More pixels than any model renders: a small file must not decompress into gigabytes.
LIMIT_PIXELS = 8192 * 8192


def task(request: Request) -> str:
    """Return the task of a request, by the pictures that it starts from."""
    if request.image is None:
        return "text-to-image"
    return "image-to-image" if request.mask is None else "inpainting"


def build(pipeline: Any, request: Request) -> dict[str, Any]:
    """Return the keyword arguments of the pipeline call, without those that it does not take."""
    seeds = range(request.seed, request.seed + request.num_images)
    size = (request.width, request.height)
    wanted: dict[str, Any] = {
        "prompt": request.prompt,
        # None differs from an empty prompt: SDXL replaces None by zeros, as in its training.
        "negative_prompt": request.negative_prompt or None,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "num_images_per_prompt": request.num_images,
        "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        # One per picture: from a single image, some pipelines draw all with the first generator.
        "image": _scaled(request.image, "RGB", size, Resampling.LANCZOS, request.num_images),
        "mask_image": _scaled(request.mask, "L", size, Resampling.NEAREST, request.num_images),
        "strength": request.strength,
    }
    known = inspect.signature(type(pipeline).__call__).parameters
    if request.control_image is not None:  # text-to-image pipelines call it `image`
        control = _scaled(request.control_image, "RGB", size, Resampling.LANCZOS, 1)
        wanted["control_image" if "control_image" in known else "image"] = control
        wanted["controlnet_conditioning_scale"] = request.controlnet_conditioning_scale
    if "strength" in known and request.strength is None:
        wanted["strength"] = known["strength"].default
    if "strength" in known and request.num_inference_steps * wanted["strength"] < 1:
        raise BadRequest("out_of_range", "strength", "strength leaves no step to run")
    if "true_cfg_scale" in known:  # guidance is distilled: a negative prompt would have no effect
        del wanted["negative_prompt"]
    return {key: value for key, value in wanted.items() if key in known and value is not None}


def _scaled(
    image: Image | None, mode: str, size: tuple[int, int], resampling: Resampling, count: int
) -> list[Image] | None:
    if image is None:
        return None
    field = "mask" if mode == "L" else "image"
    if image.width * image.height > LIMIT_PIXELS:
        message = f"the {field} is too large: {image.width}x{image.height}"
        raise BadRequest("bad_image", field, message)
    try:
        image = image.convert(mode)
    # PIL decodes lazily: the file may be truncated, broken or a decompression bomb.
    except (OSError, SyntaxError, ValueError, DecompressionBombError) as error:
        raise BadRequest("bad_image", field, f"cannot read the {field}: {error}") from error
    return [image if image.size == size else image.resize(size, resampling)] * count
