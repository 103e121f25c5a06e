"""The fields of a job request, typed, so that an editor and mypy know them.

What is left out takes the model's default. The names are those of diffusers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Required, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Webhook(TypedDict, total=False):
    """Where to tell about this job, and of which events (all, when left out)."""

    url: Required[str]
    events: Sequence[str]


class Lora(TypedDict, total=False):
    """One of the model's LoRAs, and how strongly it is worn (1.0, when left out)."""

    name: Required[str]
    scale: float


class JobFields(TypedDict, total=False):
    """Everything a request may hold beside its prompt."""

    model: str
    negative_prompt: str
    width: int
    """Pixels, a multiple of the model's `multiple_of`."""
    height: int
    num_inference_steps: int
    guidance_scale: float
    num_images: int
    seed: int
    """Image n of the job is drawn with `seed + n`."""
    scheduler: str
    image: str
    """Start from this picture: a data URL, an uploaded key, or an https URL."""
    mask: str
    strength: float
    loras: Sequence[Lora]
    controlnet: str
    """One of the model's ControlNets; `control_image` steers it."""
    control_image: str
    controlnet_conditioning_scale: float
    reproducible: bool
    """The same bytes on the same device, whoever else is there; it shares no forward pass."""
    output_format: str
    """png, jpeg, webp or avif."""
    quality: int
    """1 to 100, for jpeg, webp and avif."""
    priority: int
    deadline_s: float
    cache: bool
    """False: draw it anew, though the same was drawn before from the same seed."""
    metadata: Mapping[str, Any]
    """Yours; it comes back with the job and its webhooks."""
    webhook: Webhook


class JobRequest(JobFields):
    """A whole request, as `submit_many` takes them."""

    prompt: Required[str]
