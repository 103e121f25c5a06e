"""Catalog entries: one model of the registry, with its defaults, limits and speed settings.

The API checks requests against them before anything is stored. So no job waits for a model that no
worker serves, or for a size that the model cannot draw. `docs/reference/registry.md` is generated
from the fields below; `app.catalog.form` checks them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field

from app.config.types import Flag, Number, Whole  # noqa: TC001 - pydantic reads them
from app.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Dtype = Literal["float32", "bfloat16", "float16"]
DTYPES: tuple[str, ...] = get_args(Dtype)
COMPILED = ("", "blocks", "whole")
"""How much of a denoiser is compiled."""
Scheduler = Literal[
    "ddim", "dpmpp_2m", "euler", "euler_a", "flow_euler", "heun", "lcm", "pndm", "unipc",
]  # fmt: skip
SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)
_CHECKED = ConfigDict(extra="forbid")
"""For pydantic, when the registry is read. Code that builds these classes is not checked."""


def _compiled(value: object) -> str:
    """`true` means the blocks, because a farm that compiles only them is ready sooner."""
    if isinstance(value, bool):
        return "blocks" if value else ""
    if value not in COMPILED:
        raise ValueError(f'must be "blocks", "whole", true or false, not {value!r}')
    return str(value)


@dataclass(frozen=True, slots=True)
class Defaults:
    """The values of fields that a request leaves out."""

    __pydantic_config__ = _CHECKED

    width: Annotated[Whole, Field(description="Width in pixels.")] = 512
    height: Annotated[Whole, Field(description="Height in pixels.")] = 512
    num_inference_steps: Annotated[Whole, Field(description="Denoising steps.")] = 20
    guidance_scale: Annotated[
        Number, Field(description="Strength of classifier-free guidance; at 1 or less it is off.")
    ] = 5.0
    scheduler: Annotated[str, Field(description="One of the entry's `schedulers`.")] = "dpmpp_2m"
    strength: Annotated[
        Number, Field(description="How much of a start image is replaced, from 0 to 1.")
    ] = 0.8
    reproducible: Annotated[
        Flag, Field(description="Whether the same request gives the same bytes in any group.")
    ] = False


@dataclass(frozen=True, slots=True)
class Speed:
    """How a worker runs the model. `renderfarm doctor --tune` measures what is best on a device."""

    __pydantic_config__ = _CHECKED

    dtype: Annotated[Dtype, Field(description="The number format of weights and activations.")] = (
        "float32"
    )
    channels_last: Annotated[
        Flag, Field(description="Keep images with their channels last in memory.")
    ] = False
    compile: Annotated[
        str,
        BeforeValidator(_compiled),
        Field(
            description="How much of the denoiser `torch.compile` compiles: `blocks` (or `true`) "
            "its repeated blocks, `whole` all of it, `false` nothing.",
            examples=["blocks"],
        ),
    ] = ""
    graphs: Annotated[Flag, Field(description="Capture CUDA graphs of forward passes.")] = False
    attention: Annotated[
        str,
        Field(
            description="An attention backend of diffusers; empty: its own.", examples=["native"]
        ),
    ] = ""
    vae_tiling: Annotated[
        Flag, Field(description="Encode and decode large images in tiles, which takes less memory.")
    ] = False
    decoder: Annotated[
        str,
        Field(
            description="A folder, relative to the file, with an `AutoencoderTiny` that decodes "
            "instead of the model's own autoencoder: quicker, a little softer.",
            examples=["small-decoder"],
        ),
    ] = ""
    prompt_cache_mb: Annotated[
        Whole, Field(description="MiB of encoded prompts to keep on the device; 0 keeps none.")
    ] = 256
    loras_kept: Annotated[Whole, Field(description="LoRAs to keep in memory.")] = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """The sizes, in pixels, and the amounts that the model can draw."""

    __pydantic_config__ = _CHECKED

    min_width: Annotated[Whole, Field(description="The least width in pixels.")] = 64
    max_width: Annotated[Whole, Field(description="The greatest width in pixels.")] = 1024
    min_height: Annotated[Whole, Field(description="The least height in pixels.")] = 64
    max_height: Annotated[Whole, Field(description="The greatest height in pixels.")] = 1024
    multiple_of: Annotated[
        Whole, Field(description="Width and height are a multiple of this number of pixels.")
    ] = 8
    max_steps: Annotated[Whole, Field(description="The most denoising steps.")] = 100
    max_images: Annotated[Whole, Field(description="The most images of one job.")] = 8
    max_prompt_chars: Annotated[Whole, Field(description="The most characters of a prompt.")] = 2000


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of `models.toml`. `pipeline` is `diffusers`, or `null`: a fixed picture, no torch.

    `revision` identifies everything that its pictures depend on: see `app.catalog.revision`.
    """

    name: str
    pipeline: str
    path: Path | None
    description: str
    revision: str
    delay_s: float
    schedulers: tuple[str, ...]
    defaults: Defaults = field(default_factory=Defaults)
    limits: Limits = field(default_factory=Limits)
    speed: Speed = field(default_factory=Speed)
    decoder: Path | None = None
    loras: Mapping[str, Path] = field(default_factory=dict)
    controlnets: Mapping[str, Path] = field(default_factory=dict)

    def public(self) -> dict[str, Any]:
        """The entry as `GET /v1/models` shows it: without folders and speed settings."""
        return {
            "name": self.name,
            "description": self.description,
            "pipeline": self.pipeline,
            "revision": self.revision,
            "defaults": asdict(self.defaults),
            "limits": asdict(self.limits),
            "schedulers": list(self.schedulers),
            "loras": list(self.loras),
            "controlnets": list(self.controlnets),
        }


@dataclass(frozen=True, slots=True)
class Catalog:
    """The served models by name. The first is the default model."""

    models: Mapping[str, Model]

    @property
    def default(self) -> str:
        """The model of a request that names none."""
        return next(iter(self.models))

    def preferring(self, name: str) -> Catalog:
        """The same models with another default. `CatalogError`: that model is not served."""
        if name not in self.models:
            raise CatalogError(
                f"there is no model {name!r}; this farm serves {', '.join(self.models)}"
            )
        return Catalog({name: self.models[name], **self.models})
