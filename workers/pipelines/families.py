"""Families: pipelines for text-to-image, image-to-image and inpainting on the same modules."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from diffusers.pipelines.auto_pipeline import (
    AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    AUTO_INPAINT_PIPELINES_MAPPING,
    AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
)

from workers.engine.request import EngineError

if TYPE_CHECKING:
    from workers.engine.park import Proxy

TASKS = {
    "text-to-image": AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
    "image-to-image": AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    "inpainting": AUTO_INPAINT_PIPELINES_MAPPING,
}


def tasks(pipeline: Any, proxies: dict[str, Proxy], variant: str = "") -> dict[str, Any]:
    """Return a pipeline of the same family for each task, on the proxies of the same modules."""
    family, pipelines = _family(pipeline), {}
    kinds = {task: mapping.get(f"{family}{variant}") for task, mapping in TASKS.items()}
    if family is None and not variant:
        kinds["text-to-image"] = type(pipeline)
    for task, kind in kinds.items():
        if kind is not None and _fits(task, pipeline):
            pipelines[task] = _rebuild(kind, pipeline, proxies.get("controlnet"))
            vars(pipelines[task]).update(proxies)
    return pipelines


def _family(pipeline: Any) -> str | None:
    """Return the pipeline's family in diffusers' Auto classes.

    None means an unknown pipeline that takes a prompt; it serves text-to-image.
    """
    for mapping in TASKS.values():
        for family, kind in mapping.items():
            if kind is type(pipeline):
                return str(family)
    if "prompt" not in inspect.signature(type(pipeline).__call__).parameters:
        raise EngineError(f"{type(pipeline).__name__} takes no prompt: the engine cannot serve it")
    return None


def _rebuild(kind: Any, pipeline: Any, controlnet: Any = None) -> Any:
    """Build a pipeline of another class from the same parts and options; weights stay untouched."""
    parts = {**pipeline.config, **pipeline.components, "controlnet": controlnet}
    return kind(
        **{part: parts[part] for part in inspect.signature(kind).parameters if part in parts}
    )


def _fits(task: str, pipeline: Any) -> bool:
    """Whether the UNet takes this task's channels; inpainting UNets also take mask and image."""
    unet = getattr(pipeline, "unet", None)
    if unet is None:
        return True
    channels, latent = unet.config.in_channels, pipeline.vae.config.latent_channels
    # The inpainting pipelines assume 4 latent channels.
    return channels in (4, 9) and latent == 4 if task == "inpainting" else channels == latent
