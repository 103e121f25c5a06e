"""The request schema: the fields of a submission, their strict validation, the model's defaults.

Strict means: no unknown field, no NaN or infinity, no `"20"` for 20, no `true` for 1. HTTP and the
queues have the same rules, because both call `parse`.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID  # noqa: TC003 - pydantic reads it off the annotation

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import FieldError, InvalidJson, InvalidRequest, TooLarge, UnknownModel
from app.storage.uploads import is_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.catalog.entries import Catalog, Model

LIMIT_BYTES = 262_144
LIMIT_METADATA_BYTES = 16_384
MAX_SEED = 2**63 - 1
_PICTURE_SOURCE = "must be a data URL (data:image/png;base64,...), an upload or an https URL"

EventName = Literal[
    "job.queued", "job.started", "job.succeeded", "job.failed", "job.cancelled", "job.expired"
]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class Webhook(_Strict):
    """A URL that receives the job's events; without `events`, it receives the final events."""

    url: Annotated[str, Field(min_length=1, max_length=2048)]
    events: list[EventName] = Field(default_factory=list)


class Lora(_Strict):
    """One of the model's LoRAs, and the scale of its weights."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    scale: Annotated[float, Field(ge=-4, le=4)] = 1.0


class JobRequest(_Strict):
    """The body of `POST /v1/jobs`. Only `prompt` is required; the rest has defaults."""

    prompt: Annotated[str, Field(min_length=1, pattern=r"\S")]
    model: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    negative_prompt: str = ""
    width: Annotated[int, Field(ge=1)] | None = None
    height: Annotated[int, Field(ge=1)] | None = None
    num_inference_steps: Annotated[int, Field(ge=1)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=100)] | None = None
    num_images: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    scheduler: str | None = None
    image: str | None = None
    mask: str | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    loras: Annotated[list[Lora], Field(max_length=8)] = Field(default_factory=list)
    controlnet: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    control_image: str | None = None
    controlnet_conditioning_scale: Annotated[float, Field(ge=0, le=4)] = 1.0
    reproducible: bool | None = None
    output_format: Literal["png", "jpeg", "webp", "avif"] = "png"
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    deadline_s: Annotated[float, Field(ge=1, le=604_800)] = 600
    cache: bool = True
    metadata: dict[str, Any] = Field(default_factory=dict)
    webhook: Webhook | None = None


class QueueMessage(JobRequest):
    """The same body as a queue message, in which the producer may choose the job's id."""

    id: Annotated[UUID, Field(strict=False)] | None = None


def parse(body: bytes, form: type[JobRequest] = JobRequest) -> JobRequest:
    """Parse and validate one submission, without the model's limits (see `complete`).

    Raises `TooLarge`, `InvalidJson`, or `InvalidRequest` with each wrong field.
    """
    if len(body) > LIMIT_BYTES:
        raise TooLarge(f"the body has {len(body)} bytes; the limit is {LIMIT_BYTES}")
    try:
        request = form.model_validate_json(body)
    except ValidationError as error:
        raise _parse_error(error) from None
    if wrong := tuple(_storage_errors(request)):
        raise InvalidRequest(_summary(wrong), wrong)
    if len(json.dumps(request.metadata)) > LIMIT_METADATA_BYTES:
        raise InvalidRequest(
            "metadata is too large",
            (FieldError("metadata", f"must be at most {LIMIT_METADATA_BYTES} bytes of JSON"),),
        )
    return request


def _storage_errors(request: JobRequest) -> list[FieldError]:
    message = "must contain no NUL character, no NaN and no infinity"
    fields = request.model_dump().items()
    return [FieldError(name, message) for name, value in fields if not _storable(value)]


def _storable(value: object) -> bool:
    """Whether Postgres can store the value as JSON."""
    match value:
        case str():
            return "\0" not in value
        case float():
            return math.isfinite(value)
        case list():
            return all(map(_storable, value))
        case dict():
            return all(_storable(key) and _storable(inner) for key, inner in value.items())
    return True


def digest(request: JobRequest) -> bytes:
    """SHA-256 over the fields that are set, in canonical JSON, 32 bytes.

    Bodies that differ only in white space, order of fields or form of numbers have the same digest.
    """
    fields = request.model_dump(mode="json", exclude={"id"}, exclude_unset=True)
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).digest()


def complete(request: JobRequest, catalog: Catalog, priority: int = 0) -> dict[str, Any]:
    """The request with the model's defaults and a seed filled in, within the model's limits.

    A request without a priority gets `priority`. Raises `UnknownModel`, or `InvalidRequest` with
    each field that the model cannot serve.
    """
    name = request.model or catalog.default
    model = catalog.models.get(name)
    if model is None:
        served = ", ".join(catalog.models)
        raise UnknownModel(
            "unknown model",
            (FieldError("model", f"there is no model {name!r}; this farm serves {served}"),),
        )
    full = _with_defaults(request, model)
    if "priority" not in request.model_fields_set:
        full["priority"] = priority
    if wrong := tuple(_limit_errors(full, model)):
        raise InvalidRequest(_summary(wrong), wrong)
    return full


def _with_defaults(request: JobRequest, model: Model) -> dict[str, Any]:
    full = request.model_dump(mode="json", exclude={"id"})
    full["model"] = model.name
    defaults = model.defaults
    for name in (
        "width", "height", "num_inference_steps", "guidance_scale", "scheduler", "reproducible",
    ):  # fmt: skip
        if full[name] is None:
            full[name] = getattr(defaults, name)
    if full["image"] is not None and full["strength"] is None:
        full["strength"] = defaults.strength
    if full["seed"] is None:
        full["seed"] = secrets.randbits(32)
    return full


def _limit_errors(full: Mapping[str, Any], model: Model) -> list[FieldError]:
    limits = model.limits
    wrong = []
    for side in ("width", "height"):
        least, most = getattr(limits, f"min_{side}"), getattr(limits, f"max_{side}")
        if not least <= full[side] <= most:
            wrong.append(FieldError(side, f"must be from {least} to {most} for {model.name}"))
        elif full[side] % limits.multiple_of:
            wrong.append(
                FieldError(side, f"must be a multiple of {limits.multiple_of} for {model.name}")
            )
    for name, most in (
        ("num_inference_steps", limits.max_steps),
        ("num_images", limits.max_images),
    ):
        if full[name] > most:
            wrong.append(FieldError(name, f"must be at most {most} for {model.name}"))
    wrong += [
        FieldError(name, f"must have at most {limits.max_prompt_chars} characters")
        for name in ("prompt", "negative_prompt")
        if len(full[name]) > limits.max_prompt_chars
    ]
    if full["scheduler"] not in model.schedulers:
        wrong.append(FieldError("scheduler", f"must be one of {', '.join(model.schedulers)}"))
    if full["quality"] is not None and full["output_format"] == "png":
        wrong.append(FieldError("quality", "is for jpeg, webp and avif, because png is lossless"))
    if full["seed"] + full["num_images"] > MAX_SEED:
        wrong.append(FieldError("seed", "seed + num_images must stay below 2**63"))
    wrong += _image_errors(full)
    wrong += _adapter_errors(full, model)
    return wrong


def _adapter_errors(full: Mapping[str, Any], model: Model) -> list[FieldError]:
    wrong = []
    names = [lora["name"] for lora in full["loras"]]
    if unknown := sorted(set(names) - set(model.loras)):
        wrong.append(FieldError("loras", _unknown(model, "LoRA", unknown, model.loras)))
    if len(set(names)) < len(names):
        wrong.append(FieldError("loras", "must name each LoRA once"))
    if full["controlnet"] is not None and full["controlnet"] not in model.controlnets:
        message = _unknown(model, "ControlNet", [full["controlnet"]], model.controlnets)
        wrong.append(FieldError("controlnet", message))
    if (full["controlnet"] is None) != (full["control_image"] is None):
        missing = "controlnet" if full["controlnet"] is None else "control_image"
        wrong.append(FieldError(missing, "is required: controlnet and control_image go together"))
    elif full["control_image"] is not None and not _is_picture_source(full["control_image"]):
        wrong.append(FieldError("control_image", _PICTURE_SOURCE))
    return wrong


def _unknown(model: Model, kind: str, unknown: list[str], known: Mapping[str, Any]) -> str:
    available = ", ".join(known) or "none"
    return f"{model.name} has no {kind} {', '.join(unknown)}; it has {available}"


def _image_errors(full: Mapping[str, Any]) -> list[FieldError]:
    if full["image"] is None:
        useless = [name for name in ("mask", "strength") if full[name] is not None]
        return [FieldError(name, "requires an image") for name in useless]
    return [
        FieldError(name, _PICTURE_SOURCE)
        for name in ("image", "mask")
        if full[name] is not None and not _is_picture_source(full[name])
    ]


def _is_picture_source(text: str) -> bool:
    return text.startswith(("data:image/", "https://", "http://")) or is_name(text)


def _parse_error(error: ValidationError) -> InvalidJson | InvalidRequest:
    details = error.errors(include_url=False, include_input=False)
    if any(detail["type"] == "json_invalid" for detail in details):
        return InvalidJson(f"the body is not valid JSON: {details[0]['ctx']['error']}")
    fields = tuple(
        FieldError(".".join(str(part) for part in detail["loc"]) or "body", _message(detail))
        for detail in details
    )
    return InvalidRequest(_summary(fields), fields)


def _message(detail: Any) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return "is not a known field"
        case "missing":
            return "is required"
        case "string_pattern_mismatch" | "string_too_short":
            return "must not be empty"
        case _:
            return str(detail["msg"]).replace("Input should", "must")


def _summary(fields: tuple[FieldError, ...]) -> str:
    return "; ".join(f"{field.field} {field.message}" for field in fields)
