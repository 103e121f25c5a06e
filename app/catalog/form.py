"""Validation of the registry: one entry of `models.toml` as a pydantic model.

Paths are relative to the folder of the file, which is the validation context.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.catalog.entries import SCHEDULERS, Defaults, Limits, Model, Scheduler, Speed
from app.catalog.revision import LORA_FILE
from app.config.types import Number  # noqa: TC001 - likewise

DECODER_FILE = "config.json"
CONTROLNET_FILE = "config.json"
PIPELINE_FILE = "model_index.json"


def _folder_with(file: str) -> AfterValidator:
    """Check that a path, relative to the registry, is a folder with `file` in it; resolve it."""

    def check(folder: Path, info: ValidationInfo) -> Path:
        path: Path = _base(info) / folder
        if not (path / file).is_file():
            raise ValueError(f"must be a folder with a {file} in it")
        return path.resolve()

    return AfterValidator(check)


class EntryForm(BaseModel):
    """The keys of an entry. A key that is checked against others comes after them."""

    model_config = ConfigDict(extra="forbid")

    pipeline: Literal["diffusers", "null"] = Field(
        "diffusers",
        description="`diffusers`, or `null`: a fixed picture without torch, for tests.",
        examples=["null"],
    )
    path: Path | None = Field(
        None,
        validate_default=True,
        description=f"A folder in the diffusers format (with a `{PIPELINE_FILE}`), relative to the "
        "file. Every entry of the `diffusers` pipeline needs one.",
        examples=["portraits"],
    )
    description: str = Field(
        "", description="A sentence about the model for clients.", examples=["Portraits in oil."]
    )
    delay_s: Number = Field(
        0.0, description="Seconds that the `null` pipeline waits before its picture."
    )
    schedulers: Annotated[tuple[Scheduler, ...], Field(min_length=1)] = Field(
        SCHEDULERS, description="The schedulers that requests may choose.", examples=[["euler"]]
    )
    limits: Limits = Limits()
    defaults: Defaults = Field(Defaults(), validate_default=True)
    speed: Speed = Speed()
    loras: dict[str, Annotated[Path, _folder_with(LORA_FILE)]] = Field(
        {},
        description="LoRAs that requests may name: folders, relative to the file, with a "
        f"`{LORA_FILE}` for the denoiser alone.",
        examples=[{"ink": "portraits-ink"}],
    )
    controlnets: dict[str, Annotated[Path, _folder_with(CONTROLNET_FILE)]] = Field(
        {},
        description="ControlNets that requests may name: folders, relative to the file, with a "
        f"`{CONTROLNET_FILE}` and the weights.",
        examples=[{"edges": "portraits-edges"}],
    )

    @field_validator("path")
    @classmethod
    def _is_pipeline(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        folder: Path | None = None if path is None else (_base(info) / path).resolve()
        if info.data.get("pipeline") == "diffusers":
            if folder is None:
                raise ValueError("is missing: a folder in the diffusers format")
            if not (folder / PIPELINE_FILE).is_file():
                raise ValueError(f"must be a folder in the diffusers format, not {folder}")
        return folder

    @field_validator("defaults")
    @classmethod
    def _within_limits(cls, defaults: Defaults, info: ValidationInfo) -> Defaults:
        """Refuse defaults that the model's own limits would refuse in every request."""
        wrong: dict[str, str] = {}
        if limits := info.data.get("limits"):
            wrong |= _outside(defaults, limits)
        if defaults.scheduler not in info.data.get("schedulers", SCHEDULERS):
            wrong["scheduler"] = "must be one of the entry's schedulers"
        if wrong:
            raise _errors(wrong, defaults)
        return defaults

    @field_validator("speed")
    @classmethod
    def _has_decoder(cls, speed: Speed, info: ValidationInfo) -> Speed:
        if speed.decoder and not (_base(info) / speed.decoder / DECODER_FILE).is_file():
            text = f"must be a folder with a {DECODER_FILE} in it"
            raise _errors({"decoder": text}, speed)
        return speed

    def model(self, name: str, base: Path) -> Model:
        """The model of this entry, without its revision; `base` is the folder of the registry."""
        decoder = (base / self.speed.decoder).resolve() if self.speed.decoder else None
        keys = {key: getattr(self, key) for key in type(self).model_fields}
        return Model(name=name, revision="", decoder=decoder, **keys)


def known_keys(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The keys of the table at `location` in an entry."""
    sections: dict[object, type[Any]] = {"defaults": Defaults, "limits": Limits, "speed": Speed}
    if location:
        return tuple(sections[location[0]].__dataclass_fields__)
    return tuple(EntryForm.model_fields)


def _base(info: ValidationInfo) -> Path:
    """The folder of the registry."""
    if info.context is None:
        raise TypeError("an entry is validated with the registry's folder as its context")
    return Path(info.context)


def _outside(defaults: Defaults, limits: Limits) -> dict[str, str]:
    """The defaults outside of the limits, each with a sentence's end."""
    wrong = {}
    for side in ("width", "height"):
        pixels = getattr(defaults, side)
        least, most = getattr(limits, f"min_{side}"), getattr(limits, f"max_{side}")
        if not least <= pixels <= most or pixels % max(1, limits.multiple_of):
            wrong[side] = (
                f"must be within the limits, from {least} to {most} and a multiple of "
                f"{limits.multiple_of}, not {pixels}"
            )
    if not 1 <= defaults.num_inference_steps <= limits.max_steps:
        wrong["num_inference_steps"] = (
            f"must be from 1 to limits.max_steps, {limits.max_steps}, "
            f"not {defaults.num_inference_steps}"
        )
    return wrong


def _errors(wrong: dict[str, str], value: object) -> ValidationError:
    """One error for each key of a section; pydantic puts the section's location before it."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError("entry", "{text}", {"text": text}), loc=(key,), input=value
        )
        for key, text in wrong.items()
    ]
    return ValidationError.from_exception_data("entry", details)
