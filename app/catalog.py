"""What the farm serves: the models of `models.toml`, with their defaults and limits.

The API checks requests against it before anything is stored, so that no job ever waits for a
model that nobody serves or a size that the model cannot draw.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from app.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

T = TypeVar("T")
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
    """One entry of `models.toml`. `pipeline` is `diffusers`, or `null`: a fixed picture, no torch."""

    name: str
    pipeline: str
    path: Path | None
    description: str
    revision: str
    delay_s: float
    schedulers: tuple[str, ...]
    defaults: Defaults = field(default_factory=Defaults)
    limits: Limits = field(default_factory=Limits)

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
        }


@dataclass(frozen=True, slots=True)
class Catalog:
    """The served models by name. The first is the default of requests that name none."""

    models: Mapping[str, Model]

    @property
    def default(self) -> str:
        """The name that a request without a model gets."""
        return next(iter(self.models))


def load_catalog(file: Path, serve: frozenset[str] | None = None) -> Catalog:
    """Read `models.toml`; serve the named entries, or all but those of the `null` pipeline.

    Raises `CatalogError` naming the file and the entry.
    """
    try:
        table = tomllib.loads(file.read_text())
    except OSError as error:
        raise CatalogError(f"cannot read {file}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{file} is not TOML: {error}") from error
    if unknown := (serve or frozenset()) - table.keys():
        names = ", ".join(sorted(unknown))
        raise CatalogError(f"{file} has no model {names}; it has {', '.join(table)}")
    served = {
        name: _model(file, name, entry)
        for name, entry in table.items()
        if (name in serve if serve else _is_real(entry))
    }
    if not served:
        raise CatalogError(f"{file} has no model to serve")
    return Catalog(served)


def _is_real(entry: Any) -> bool:
    return not (isinstance(entry, dict) and entry.get("pipeline") == "null")


def _model(file: Path, name: str, entry: Any) -> Model:
    where = f"{file}, [{name}]"
    if not isinstance(entry, dict):
        raise CatalogError(f"{where}: must be a table")
    allowed = {"pipeline", "path", "description", "delay_s", "schedulers", "defaults", "limits"}
    if unknown := entry.keys() - allowed:
        raise CatalogError(f"{where}: unknown setting {', '.join(sorted(unknown))}")
    pipeline = entry.get("pipeline", "diffusers")
    if pipeline not in {"diffusers", "null"}:
        raise CatalogError(f"{where}: pipeline must be diffusers or null, not {pipeline!r}")
    path = (file.parent / entry["path"]).resolve() if "path" in entry else None
    if pipeline == "diffusers" and (path is None or not (path / "model_index.json").is_file()):
        raise CatalogError(f"{where}: path must be a folder in the diffusers format, not {path}")
    return Model(
        name=name,
        pipeline=pipeline,
        path=path,
        description=entry.get("description", ""),
        revision=_revision(path),
        delay_s=float(entry.get("delay_s", 0.0)),
        schedulers=tuple(entry.get("schedulers", SCHEDULERS)),
        defaults=_section(where, "defaults", Defaults, entry),
        limits=_section(where, "limits", Limits, entry),
    )


def _section(where: str, name: str, kind: type[T], entry: dict[str, Any]) -> T:
    values = entry.get(name, {})
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := values.keys() - known:
        raise CatalogError(f"{where}: unknown {name} {', '.join(sorted(unknown))}")
    return kind(**values)


def _revision(path: Path | None) -> str:
    """A name for exactly these weights: the SHA-256 over names and contents, first 12 digits."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path else ():
        if file.suffix in {".json", ".safetensors", ".txt"} and file.is_file():
            digest.update(file.relative_to(path or file).as_posix().encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]
