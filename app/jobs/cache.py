"""Result cache: the key is a hash of everything that a job's pictures depend on. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_FIELDS = (
    "model", "prompt", "negative_prompt", "width", "height", "num_inference_steps",
    "guidance_scale", "num_images", "seed", "scheduler", "image", "mask", "strength",
    "loras", "controlnet", "control_image", "controlnet_conditioning_scale", "reproducible",
    "output_format", "quality",
)  # fmt: skip


def key_of(request: Mapping[str, Any], revision: str) -> bytes:
    """The cache key, 32 bytes: SHA-256 over `KEY_FIELDS` and the revision of the model's weights.

    `request` is complete: every default is filled in.
    """
    fields = [request.get(name) for name in KEY_FIELDS]
    return hashlib.sha256(json.dumps([revision, fields]).encode()).digest()


def repeatable(request: Mapping[str, Any]) -> bool:
    """Whether the same request makes the same picture: false if an input picture is at a URL."""
    sources = (request.get(name) for name in ("image", "mask", "control_image"))
    return not any(source and source.startswith(("https://", "http://")) for source in sources)
