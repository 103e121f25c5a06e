"""What can go wrong in the control plane, as one tree: catch `FarmError` at a boundary."""

from __future__ import annotations

from dataclasses import dataclass


class FarmError(Exception):
    """The base of every error that the control plane raises on purpose."""


class SettingsError(FarmError):
    """A setting is missing or unusable; the message names the variable."""


class CatalogError(FarmError):
    """The models file is missing or unusable; the message names the file and the entry."""


class BadName(FarmError):
    """A tenant can't be called so; the message says what can."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field of a request."""

    field: str
    message: str


class Refused(FarmError):
    """A request that the farm does not take. Carries what the caller needs to mend it.

    `code` is stable and `status` is the HTTP answer; `fields` names each bad field.
    """

    status = 400
    code = "bad_request"

    def __init__(self, detail: str, fields: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields


class InvalidJson(Refused):
    """The body is not JSON at all."""

    code = "invalid_json"


class TooLarge(Refused):
    """The body is larger than the farm reads."""

    status = 413
    code = "too_large"


class InvalidRequest(Refused):
    """Some fields are wrong; each is named."""

    status = 422
    code = "invalid_request"

    def within(self, place: str) -> InvalidRequest:
        """The same refusal of a request that is one of several: `place` comes before each field."""
        fields = tuple(FieldError(f"{place}.{f.field}", f.message) for f in self.fields)
        return InvalidRequest(f"{place}: {self.detail}", fields)


class UnknownModel(InvalidRequest):
    """The farm does not serve the model."""


class Unstorable(Refused):
    """Postgres cannot hold it, though every check let it pass."""

    status = 422
    code = "unstorable"


class IdempotencyConflict(Refused):
    """The idempotency key was used before, with another body."""

    status = 409
    code = "idempotency_conflict"


class NotCancellable(Refused):
    """The job has ended already."""

    status = 409
    code = "job_final"


class NotFound(Refused):
    """There is no such thing, or it is another tenant's."""

    status = 404
    code = "not_found"


class Unauthorized(Refused):
    """No key, or one that is not valid."""

    status = 401
    code = "unauthorized"


class OverQuota(Refused):
    """The tenant's limit is reached; try again in `retry_after_s` seconds."""

    status = 429
    code = "over_quota"

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Unavailable(Refused):
    """The farm cannot take requests just now; try again in `retry_after_s` seconds."""

    status = 503
    code = "unavailable"

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
