"""Values of the job store: the arguments and results of `Store`, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

Row: TypeAlias = "dict[str, Any]"

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request that passed every check. `request` has every default filled in.

    `trace` is the W3C traceparent of the submission. With a `cache_key`, the job's images may
    answer later jobs. With `reuse`, an earlier job's images may answer this job.
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
    """The job's row for a submission, and whether this submission created it."""

    row: Row
    created: bool


def attempt_name(job_id: UUID, attempt: int) -> str:
    """The name of an attempt in the engine and in Celery.

    The job's id is not enough: a worker may claim a job while it still renders a lost attempt of
    it.
    """
    return f"{job_id}.{attempt}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's claim on a job. Each later statement carries `attempt` as its fencing token.

    `exclusive`: no other job may be in flight with it. `checkpoint` is the object key of the state
    that an earlier attempt saved, from which this attempt resumes.
    """

    id: UUID
    tenant_id: UUID
    attempt: int
    request: Mapping[str, Any]
    exclusive: bool
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class NewImage:
    """One image of a job, stored as an object under `key`. `n` counts from 0 within the job."""

    n: int
    key: str
    width: int
    height: int
    content_type: str
    bytes: int
    sha256: str
    seed: int


@dataclass(frozen=True, slots=True)
class AttemptCosts:
    """The cost of one attempt: seconds of rendering, of storing and of the device, and US dollars.

    `gpu_seconds` is the attempt's share of the device's time.
    """

    render_s: float
    store_s: float
    gpu_seconds: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. `code` is stable; if `transient`, another attempt may succeed."""

    code: str
    message: str
    transient: bool = False
