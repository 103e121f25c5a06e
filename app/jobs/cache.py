"""What a picture depends on, as one hash: jobs with the same one draw the same picture. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DRAWN_FROM = (
    "model", "prompt", "negative_prompt", "width", "height", "num_inference_steps",
    "guidance_scale", "num_images", "seed", "scheduler", "image", "mask", "strength",
    "loras", "controlnet", "control_image", "controlnet_conditioning_scale", "reproducible",
    "output_format", "quality",
)  # fmt: skip


def key_of(request: Mapping[str, Any], revision: str) -> bytes:
    """SHA-256 over a completed request's part in the picture, and the weights that draw it."""
    drawn = [request.get(name) for name in DRAWN_FROM]
    return hashlib.sha256(json.dumps([revision, drawn]).encode()).digest()


def repeatable(request: Mapping[str, Any]) -> bool:
    """Whether the same request draws the same picture: not where it starts from somebody's URL."""
    starts = (request.get(name) for name in ("image", "mask", "control_image"))
    return not any(text and text.startswith(("https://", "http://")) for text in starts)
