"""Shared types: what a job is, and the farm's answers about it.

Values only, made from the farm's JSON. Unknown fields are ignored, so an older SDK works with a
newer farm.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from renderfarm._preview import Preview


class Status(StrEnum):
    """The state of a job. The last four are final: no job leaves them."""

    QUEUED = "queued"
    """Accepted; waiting for a slot, or for its next attempt."""
    RUNNING = "running"
    """A worker holds its lease."""
    SUCCEEDED = "succeeded"
    """Its images are stored."""
    FAILED = "failed"
    """It could not be rendered, or its attempts are used up."""
    CANCELLED = "cancelled"
    """Its owner cancelled it."""
    EXPIRED = "expired"
    """Its deadline passed."""

    @property
    def final(self) -> bool:
        """Whether the state is final."""
        return self in FINAL


FINAL: frozenset[Status] = frozenset(
    {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED},
)


class _FromJson:
    """A value whose fields are those of the farm's JSON."""

    __slots__ = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the farm's JSON."""
        return cls(**_known(cls, data))


@dataclass(frozen=True, slots=True)
class Progress(_FromJson):
    """Denoising steps done, of how many."""

    step: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Timings(_FromJson):
    """Seconds of waiting, rendering and storing; None for what has not happened yet."""

    queued_s: float | None = None
    render_s: float | None = None
    store_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobError(_FromJson):
    """Why a job did not succeed: a stable `code` for programs, a `message` for people."""

    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Image(_FromJson):
    """One stored image. `url` is presigned and expires; reading the job again gives a new one."""

    url: str
    width: int
    height: int
    content_type: str
    bytes: int
    """Size of the file."""
    sha256: str
    """SHA-256 of the file, in hex."""
    seed: int
    """`torch.Generator("cpu").manual_seed(seed)` draws this image again."""


@dataclass(frozen=True, slots=True)
class Job:
    """The farm's answer about a job at one moment."""

    id: str
    status: Status
    request: Mapping[str, Any] = field(default_factory=dict)
    """The request, completed with the model's defaults and the seed."""
    progress: Progress | None = None
    position: int | None = None
    """Jobs ahead of this one in the queue, if the farm counts them."""
    images: tuple[Image, ...] = ()
    error: JobError | None = None
    attempt: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    timings: Timings = Timings()
    gpu_seconds: float | None = None
    cost_usd: float | None = None
    cached: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the job is in a final state."""
        return self.status.final

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the farm's JSON. Raises ValueError for an unknown state or time."""
        known = {name: value for name, value in _known(cls, data).items() if value is not None}
        known["status"] = Status(known["status"])
        for name in ("created_at", "started_at", "finished_at", "expires_at"):
            if name in known:
                known[name] = datetime.fromisoformat(known[name])
        for name, kind in (("progress", Progress), ("error", JobError), ("timings", Timings)):
            if name in known:
                known[name] = kind.from_json(known[name])
        known["images"] = tuple(Image.from_json(image) for image in known.get("images", ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Limits(_FromJson):
    """The limits of a model. Width and height are pixels and multiples of `multiple_of`."""

    min_width: int
    max_width: int
    min_height: int
    max_height: int
    multiple_of: int
    max_steps: int
    max_images: int
    max_prompt_chars: int


@dataclass(frozen=True, slots=True)
class Model:
    """A model that the farm serves, with its limits and defaults."""

    name: str
    limits: Limits
    description: str = ""
    pipeline: str = ""
    revision: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    schedulers: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()
    controlnets: tuple[str, ...] = ()
    batching: str | None = None
    """`step`: jobs share forward passes. `none`: one job at a time. None: no worker serves it."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the farm's JSON."""
        known = {name: value for name, value in _known(cls, data).items() if value is not None}
        known["limits"] = Limits.from_json(known["limits"])
        for name in ("schedulers", "loras", "controlnets"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class StateEvent:
    """The job changed its state; `job` is its new state."""

    job: Job


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """The job advanced. Some of these events carry a new `preview`."""

    progress: Progress
    preview: Preview | None = None


Event = StateEvent | ProgressEvent
"""The events of `Job.events()`."""


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    return {each.name: data[each.name] for each in fields(kind) if each.name in data}
