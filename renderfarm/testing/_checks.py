"""The rules of a farm for requests, checked field by field."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KINDS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "prompt": (str,),
    "negative_prompt": (str,),
    "width": (int,),
    "height": (int,),
    "num_inference_steps": (int,),
    "guidance_scale": (int, float),
    "num_images": (int,),
    "seed": (int,),
    "scheduler": (str,),
    "image": (str,),
    "mask": (str,),
    "strength": (int, float),
    "loras": (list,),
    "controlnet": (str,),
    "control_image": (str,),
    "controlnet_conditioning_scale": (int, float),
    "reproducible": (bool,),
    "output_format": (str,),
    "quality": (int,),
    "priority": (int,),
    "deadline_s": (int, float),
    "cache": (bool,),
    "metadata": (dict,),
    "webhook": (dict,),
}
MAX_SEED = 2**63 - 1


def faults(request: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return each bad field of a request, with what is wrong with it."""
    found = dict(_kind_faults(request))
    if "prompt" not in request:
        found["prompt"] = "is required"
    name = request.get("model", next(iter(models)))
    if "model" not in found and name not in models:
        found["model"] = f"is not served; there are {', '.join(models)}"
    if not found:
        found.update(_limit_faults(request, models[name]["limits"]))
    return found


def _kind_faults(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in request.items():
        if name not in KINDS:
            yield name, "is not a field of a request"
        elif value is None and name != "prompt":
            continue
        elif not isinstance(value, KINDS[name]) or (
            isinstance(value, bool) and bool not in KINDS[name]
        ):
            yield name, f"must be of type {KINDS[name][-1].__name__}"
        elif isinstance(value, float) and not math.isfinite(value):
            yield name, "must be finite"


def _limit_faults(
    request: Mapping[str, Any],
    limits: Mapping[str, int],
) -> Iterator[tuple[str, str]]:
    if not request["prompt"].strip():
        yield "prompt", "must not be empty"
    if len(request["prompt"]) > limits["max_prompt_chars"]:
        yield "prompt", f"must not be longer than {limits['max_prompt_chars']} characters"
    ranges = {
        "width": (limits["min_width"], limits["max_width"]),
        "height": (limits["min_height"], limits["max_height"]),
        "num_inference_steps": (1, limits["max_steps"]),
        "num_images": (1, limits["max_images"]),
        "seed": (0, MAX_SEED),
    }
    for name, (least, most) in ranges.items():
        value = request.get(name)
        if value is not None and not least <= value <= most:
            yield name, f"must be from {least} to {most}"
    for name in ("width", "height"):
        if (request.get(name) or 0) % limits["multiple_of"]:
            yield name, f"must be a multiple of {limits['multiple_of']}"
