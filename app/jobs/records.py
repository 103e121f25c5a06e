"""The values that pass between the records and the rest: what goes in, what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

Row: TypeAlias = "dict[str, Any]"

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request that passed every check, ready to be stored. `request` has every default filled in.

    `trace` is the W3C traceparent that it came with. `cache_key` is what the picture depends on, if
    others may be answered with it; `reuse`: this one may be answered with another's.
    """

    id: UUID
    tenant_id: UUID
    idempotency_key: str
    request_hash: bytes
    request: Mapping[str, Any]
    trace: str | None = None
    cache_key: bytes | None = None
    reuse: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """What the records hold for a submission: the row, and whether this submission made it."""

    row: Row
    created: bool


def attempt_name(job_id: UUID, attempt: int) -> str:
    """What an attempt is called in the engine and in Celery.

    Not by the job's id alone: a lost attempt may still be in a worker that claims the next one.
    """
    return f"{job_id}.{attempt}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on a job: `attempt` is the fence that each later statement carries.

    `checkpoint` is the key of the object that an earlier attempt left to go on from.
    """

    id: UUID
    tenant_id: UUID
    attempt: int
    request: Mapping[str, Any]
    exclusive: bool
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class NewImage:
    """One object that was stored for a job. `n` counts from 0 within the job."""

    n: int
    key: str
    width: int
    height: int
    content_type: str
    bytes: int
    sha256: str
    seed: int


@dataclass(frozen=True, slots=True)
class Costs:
    """What one attempt took: seconds of rendering, of storing, and of the device's own time."""

    render_s: float
    store_s: float
    gpu_seconds: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. `code` is stable; `transient`: another attempt may well succeed."""

    code: str
    message: str
    transient: bool = False
