"""Request: a job for the engine, its possible outcomes, and the engine's errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


class EngineError(Exception):
    """Base of all errors that the engine raises on purpose."""


class BadRequest(EngineError):
    """A request that cannot run; `field` names the invalid field, `code` is stable."""

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.message = message


class BadCheckpoint(EngineError):
    """A checkpoint that is broken or belongs to another request."""


class DeviceLost(EngineError):
    """The device is poisoned: no job on it can continue, and the process must end."""


class NotFinite(EngineError):
    """A job's latents or pixels contain a NaN or an infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One job: `num_images` pictures of one prompt, with the field names of diffusers.

    Image `n` is drawn from `torch.Generator("cpu").manual_seed(seed + n)`. `image` makes it
    image-to-image, `image` with `mask` inpainting (white parts are replaced); both are scaled to
    `width` x `height` pixels. `scheduler=None` is the model's own. `reproducible` gives the same
    bytes on the same device, whatever other jobs run. `loras` are pairs of a LoRA's name and scale,
    `controlnet` is a ControlNet's name; both belong to the model. `control_image` steers the
    ControlNet. A higher `priority` runs earlier; an `exclusive` job runs while no other job is in
    flight. `revision` identifies the model's weights: a checkpoint is valid for one revision.
    """

    id: str
    model: str
    prompt: str
    negative_prompt: str = ""
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    num_images: int = 1
    seed: int
    scheduler: str | None = None
    image: Image | None = None
    mask: Image | None = None
    strength: float | None = None
    loras: tuple[tuple[str, float], ...] = ()
    controlnet: str | None = None
    control_image: Image | None = None
    controlnet_conditioning_scale: float = 1.0
    reproducible: bool = False
    revision: str = ""
    priority: int = 0
    exclusive: bool = False

    def check(self) -> None:
        """Raise BadRequest for values that no model could run."""
        for field in ("width", "height", "num_inference_steps", "num_images"):
            if getattr(self, field) < 1:
                raise BadRequest("out_of_range", field, f"{field} must be at least 1")
        if not 0 <= self.seed < 2**63 - self.num_images:
            raise BadRequest("out_of_range", "seed", "seed must be at least 0 and below 2**63")
        if not math.isfinite(self.guidance_scale):
            raise BadRequest("out_of_range", "guidance_scale", "guidance_scale must be finite")
        if self.mask is not None and self.image is None:
            raise BadRequest("missing_field", "image", "a mask needs an image")
        if (self.controlnet is None) != (self.control_image is None):
            field = "controlnet" if self.controlnet is None else "control_image"
            raise BadRequest(
                "missing_field", field, "a controlnet and its control_image go together"
            )
        for scale in (self.controlnet_conditioning_scale, *(scale for _, scale in self.loras)):
            if not math.isfinite(scale):
                raise BadRequest("out_of_range", "scale", "scales must be finite")
        if self.strength is not None:
            self._check_strength(self.strength)

    def _check_strength(self, strength: float) -> None:
        if self.image is None:
            raise BadRequest("missing_field", "image", "strength needs an image")
        if not 0 < strength <= 1:
            raise BadRequest("out_of_range", "strength", "strength must be above 0, at most 1")


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """A job that has its pictures.

    `pixels` are HxWx3 uint8, one array for each of `seeds`. `device_s` is the job's share of the
    seconds of its forwards, by rows.
    """

    id: str
    pixels: list[NDArray[np.uint8]]
    seeds: tuple[int, ...]
    device_s: float
    steps: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A job that failed by itself, with `render_failed`, `out_of_memory` or `not_finite`."""

    id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A job that was cancelled."""

    id: str


@dataclass(frozen=True, slots=True)
class Drained:
    """An unfinished job; `checkpoint` holds its `steps` answered denoiser calls, if any."""

    id: str
    steps: int
    checkpoint: bytes | None


Outcome: TypeAlias = Finished | Failed | Cancelled
