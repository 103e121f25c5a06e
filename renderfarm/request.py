"""The fields of a job request, typed, so that an editor and mypy know them.

The model's defaults fill the fields that are left out. The names are those of diffusers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Required, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Webhook(TypedDict, total=False):
    """The receiver of this job's webhooks, and the events that it gets (default: all)."""

    url: Required[str]
    events: Sequence[str]


class Lora(TypedDict, total=False):
    """One of the model's LoRAs, and its strength (default 1.0)."""

    name: Required[str]
    scale: float


class JobFields(TypedDict, total=False):
    """Every field of a request except its prompt."""

    model: str
    """The model's name; default: the farm's first model."""
    negative_prompt: str
    """What the picture must not show."""
    width: int
    """Pixels, a multiple of the model's `multiple_of`."""
    height: int
    """Pixels, like `width`."""
    num_inference_steps: int
    """Denoising steps."""
    guidance_scale: float
    """How closely the picture follows the prompt."""
    num_images: int
    """How many pictures."""
    seed: int
    """Image n of the job is drawn with `seed + n`."""
    scheduler: str
    """The sampler, one of the model's `schedulers`."""
    image: str
    """Start from this picture: a data URL, an uploaded key, or an https URL."""
    mask: str
    """Inpainting: repaint `image` where this picture is white."""
    strength: float
    """How far the picture may move away from `image`: above 0, at most 1."""
    loras: Sequence[Lora]
    """The model's LoRAs to apply."""
    controlnet: str
    """One of the model's ControlNets; `control_image` steers it."""
    control_image: str
    """The ControlNet's input picture."""
    controlnet_conditioning_scale: float
    """The ControlNet's strength."""
    reproducible: bool
    """The same bytes on the same device, whatever other jobs are there; it shares no forward pass.
    """
    output_format: str
    """png, jpeg, webp or avif."""
    quality: int
    """1 to 100, for jpeg, webp and avif."""
    priority: int
    """-100 to 100; higher runs earlier."""
    deadline_s: float
    """Seconds after which the job expires."""
    cache: bool
    """False: render again, even if the result cache has the picture."""
    metadata: Mapping[str, Any]
    """Your own JSON; it comes back with the job and its webhooks."""
    webhook: Webhook
    """Where this job's webhooks are sent."""


class JobRequest(JobFields):
    """A whole request, the form that `submit_many` takes."""

    prompt: Required[str]
    """What the picture shows."""
