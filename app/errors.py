"""Errors of the control plane, as one tree: catch `FarmError` at a boundary.

`Refused` and its subclasses are the errors of a request: the API answers them as problem details
(RFC 9457), and intake moves the message to the rejects (a dead-letter queue).
"""

from __future__ import annotations

from dataclasses import dataclass


def first_line(error: BaseException | None) -> str:
    """The first line of an error's message, for a log event; empty if there is no message.

    Later lines of a database error quote the statement and its values.
    """
    lines = str(error or "").strip().splitlines()
    return lines[0] if lines else ""


def summary(error: BaseException) -> str:
    """The type of an error and the first line of its message, in one line."""
    return f"{type(error).__name__}: {first_line(error)}"


class FarmError(Exception):
    """The base of every error that the control plane raises on purpose."""


class SettingsError(FarmError):
    """A setting is missing or invalid; the message names the environment variable."""


class CatalogError(FarmError):
    """The models file is missing or invalid; the message names the file and the entry."""


class BadName(FarmError):
    """The name is not valid for a tenant; the message says which names are."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One error in one field of a request: the field's path, such as `loras.0.scale`, and why."""

    field: str
    message: str


class Refused(FarmError):
    """The farm refuses a request. The error carries what the caller needs to correct the request.

    `code` is stable, `status` is the HTTP status, and `fields` names each wrong field.
    """

    status = 400
    code = "bad_request"

    def __init__(self, detail: str, fields: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields


class InvalidJson(Refused):
    """The body is not valid JSON."""

    code = "invalid_json"


class TooLarge(Refused):
    """The body exceeds the size limit."""

    status = 413
    code = "too_large"


class InvalidRequest(Refused):
    """Some fields are wrong; `fields` names each of them."""

    status = 422
    code = "invalid_request"

    def within(self, place: str) -> InvalidRequest:
        """The same error for one request of a list: each field's path begins with `place`."""
        fields = tuple(FieldError(f"{place}.{f.field}", f.message) for f in self.fields)
        return InvalidRequest(f"{place}: {self.detail}", fields)


class UnknownModel(InvalidRequest):
    """The farm does not serve the model."""


class Unstorable(Refused):
    """Postgres cannot store a value of the request, although every check passed."""

    status = 422
    code = "unstorable"


class IdempotencyConflict(Refused):
    """The idempotency key was used before, with another body."""

    status = 409
    code = "idempotency_conflict"


class NotCancellable(Refused):
    """The job is in a final state already."""

    status = 409
    code = "job_final"


class NotFound(Refused):
    """The requested object does not exist, or belongs to another tenant."""

    status = 404
    code = "not_found"


class Unauthorized(Refused):
    """The request has no API key, or an invalid one."""

    status = 401
    code = "unauthorized"


class OverQuota(Refused):
    """A limit of the tenant is reached; try again after `retry_after_s` seconds."""

    status = 429
    code = "over_quota"

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Unavailable(Refused):
    """The farm cannot accept requests now; try again after `retry_after_s` seconds."""

    status = 503
    code = "unavailable"

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
