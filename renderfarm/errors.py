"""Errors, split by what the caller can do about them.

RenderfarmError
├── FarmNotFound            pass the farm's URL, or set RENDERFARM_URL
├── TransportError          no answer after every retry: check the network or the farm
├── BadAnswer               the answer does not come from a farm: check the URL, or a proxy
├── DownloadError           an image could not be downloaded whole
├── ApiError                the farm refused
│   ├── InvalidRequest      change the request; each bad field is named
│   ├── Unauthorized        use another key
│   ├── Forbidden           the key may not do this
│   ├── NotFound            no such job, or not yours
│   ├── Conflict            the job is final, or the idempotency key has another request
│   ├── RateLimited         wait `retry_after_s`
│   └── ServerError         the farm's own fault; retried already
├── JobEnded                the job ended without images; `job` shows how
│   ├── JobFailed
│   ├── JobCancelled
│   └── JobExpired
├── WaitTimeout             `job` continues: wait again, or cancel it
└── WebhookError            not from your farm: answer 400 and ignore it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from renderfarm.types import Status

if TYPE_CHECKING:
    from renderfarm.types import Job


class RenderfarmError(Exception):
    """The base of every error that this package raises on purpose."""


class FarmNotFound(RenderfarmError):
    """No URL or key was given, and no farm was found in this folder."""


class TransportError(RenderfarmError):
    """The farm could not be reached, or the connection broke; `__cause__` is httpx's error."""


class BadAnswer(RenderfarmError):
    """The answer does not come from a farm: most often a wrong URL, or a proxy's own page."""


class DownloadError(RenderfarmError):
    """An image could not be fetched, or its bytes do not have the promised SHA-256."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field of a request that the farm refused, and why."""

    field: str
    message: str


class ApiError(RenderfarmError):
    """The farm refused, with a problem+json answer (RFC 9457).

    `status` is HTTP's, `code` is stable and for programs, `detail` is for people, `fields` names
    each bad field, `retry_after_s` is the pause that the farm asks for, if any.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        fields: tuple[FieldError, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(status, code, detail, fields, retry_after_s)
        self.status = status
        self.code = code
        self.detail = detail
        self.fields = fields
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Describe the refusal, each bad field on its own line, and the code to look up."""
        unexplained = [each for each in self.fields if each.message not in self.detail]
        lines = [f"  {each.field}: {each.message}" for each in unexplained]
        return "\n".join([f"{self.detail} ({self.status} {self.code})", *lines])


class InvalidRequest(ApiError):
    """The request cannot be rendered (422, and 400, 413, 415)."""


class Unauthorized(ApiError):
    """The key is missing, unknown or revoked (401)."""


class Forbidden(ApiError):
    """The key is valid, but may not do this (403)."""


class NotFound(ApiError):
    """It does not exist, or it belongs to another tenant (404, 410)."""


class Conflict(ApiError):
    """It conflicts with the state: a final job, or a key with another request (409)."""


class RateLimited(ApiError):
    """A limit is reached (429); try again after `retry_after_s`, if the farm gives it."""


class ServerError(ApiError):
    """The farm failed (5xx), also on each retry."""


class JobEnded(RenderfarmError):
    """A job ended without images. `job` is its last state, `job.error` the reason."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        """Describe which job, how it ended, and why."""
        reason = f": {self.job.error.message} ({self.job.error.code})" if self.job.error else ""
        return f"job {self.job.id} {self.job.status}{reason}"


class JobFailed(JobEnded):
    """It could not be rendered, or its attempts are used up."""


class JobCancelled(JobEnded):
    """It was cancelled."""


class JobExpired(JobEnded):
    """Its deadline passed before it was done."""


class WaitTimeout(RenderfarmError):
    """The wait is over, the job is not. Nothing is lost: `job` continues by itself."""

    def __init__(self, job: Job, waited_s: float) -> None:
        super().__init__(job, waited_s)
        self.job = job
        self.waited_s = waited_s

    def __str__(self) -> str:
        """Describe which job, how long the wait was, and the job's state."""
        return f"job {self.job.id} is still {self.job.status} after {self.waited_s:g} s"


class WebhookError(RenderfarmError):
    """A webhook that your farm did not sign, that is too old, or that cannot be read."""


BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
}
"""The error of an HTTP status; others are `ServerError` from 500 up, otherwise `ApiError`."""

BY_STATE: dict[Status, type[JobEnded]] = {
    Status.FAILED: JobFailed,
    Status.CANCELLED: JobCancelled,
    Status.EXPIRED: JobExpired,
}
"""The error of a final state."""
