"""Catalog entries: one model of the registry, with its defaults, limits and speed settings.

The API checks requests against them before anything is stored, so that no job waits for a model
that no worker serves, or for a size that the model cannot draw.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from app.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DTYPES = ("float32", "bfloat16", "float16")
COMPILED = ("", "blocks", "whole")
"""How much of a denoiser is compiled."""
SCHEDULERS = (
    "ddim", "dpmpp_2m", "euler", "euler_a", "flow_euler", "heun", "lcm", "pndm", "unipc",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request gets that leaves a field out."""

    width: int = 512
    height: int = 512
    num_inference_steps: int = 20
    guidance_scale: float = 5.0
    scheduler: str = "dpmpp_2m"
    strength: float = 0.8
    reproducible: bool = False


@dataclass(frozen=True, slots=True)
class Speed:
    """How the model is run. What is best depends on the device: `renderfarm doctor --tune` measures.

    `decoder` is a folder, relative to the file, of a small autoencoder that decodes instead of the
    model's own. Of LoRAs `loras_kept` stay in memory; of encoded prompts, `prompt_cache_mb`. `compile`
    is one of `COMPILED`.
    """

    dtype: str = "float32"
    channels_last: bool = False
    compile: str = ""
    graphs: bool = False
    attention: str = ""
    vae_tiling: bool = False
    decoder: str = ""
    prompt_cache_mb: int = 256
    loras_kept: int = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What the model can draw. Sizes in pixels."""

    min_width: int = 64
    max_width: int = 1024
    min_height: int = 64
    max_height: int = 1024
    multiple_of: int = 8
    max_steps: int = 100
    max_images: int = 8
    max_prompt_chars: int = 2000


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of `models.toml`. `pipeline` is `diffusers`, or `null`: a fixed picture, no torch.

    `revision` names all that its pictures are made from: see `app.catalog.revision`.
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
        """The entry as `GET /v1/models` shows it."""
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
    """The served models by name. The first is the default of requests that name none."""

    models: Mapping[str, Model]

    @property
    def default(self) -> str:
        """The name that a request without a model gets."""
        return next(iter(self.models))

    def preferring(self, name: str) -> Catalog:
        """The same models with another default; raises `CatalogError` if it is not served."""
        if name not in self.models:
            raise CatalogError(
                f"there is no model {name!r}; this farm serves {', '.join(self.models)}"
            )
        return Catalog({name: self.models[name], **self.models})
