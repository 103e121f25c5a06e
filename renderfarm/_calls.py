"""Every call of the HTTP contract as a value: the request, and how to read its answer.

Nothing here uses the network, so both clients share it and a test needs no server.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

from renderfarm import errors
from renderfarm.types import Job, Model, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

T = TypeVar("T")

BATCH_JOBS = 1_000
"""The most jobs in one `POST /v1/jobs:batch`."""
PAGE_JOBS = 100
HOLD_GRACE_S = 10.0
"""How much longer than requested a long poll may take."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `url` is a path under the farm's URL, or absolute when `public`."""

    method: str
    url: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    timeout_s: float | None = None
    """None: the client's own."""
    public: bool = False
    """A presigned URL, perhaps on another host: the key must not be sent there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read whole. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and the function that parses the body of its answer."""

    request: Request
    parse: Callable[[bytes], T]

    def read(self, answer: Answer) -> T:
        """Return the value of a 2xx answer. Raises BadAnswer for a body that no farm sends."""
        if not 200 <= answer.status < 300:
            location = answer.headers.get("location", "no location")
            raise errors.BadAnswer(
                f"HTTP {answer.status} points to {location}: check the farm's URL"
            )
        try:
            return self.parse(answer.body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            start = answer.body[:80].decode(errors="replace")
            message = f"{self.request.url} did not answer like a farm ({error!r}): {start!r}"
            raise errors.BadAnswer(message) from error


@dataclass(frozen=True, slots=True)
class Page:
    """One page of jobs, newest first; `cursor` leads to the next page, None ends the list."""

    jobs: tuple[Job, ...]
    cursor: str | None


class Listing:
    """Follows the cursor over the pages of a list, for `limit` jobs or to its end."""

    def __init__(self, status: str | None, model: str | None, limit: int | None) -> None:
        # An unknown status is an error of the caller, and not an empty list.
        self._status = Status(status).value if status else None
        self._model = model
        self._remaining = float("inf") if limit is None else limit
        self._cursor: str | None = None
        self._ended = False

    def next_call(self) -> Call[Page] | None:
        """Return the call for the next page; None at the end."""
        if self._ended or self._remaining <= 0:
            return None
        limit = int(min(PAGE_JOBS, self._remaining))
        return list_jobs(limit=limit, status=self._status, model=self._model, cursor=self._cursor)

    def take(self, page: Page) -> tuple[Job, ...]:
        """Return a page's jobs, at most `limit` in all, and remember the cursor."""
        jobs = page.jobs[: int(min(len(page.jobs), self._remaining))]
        self._remaining -= len(jobs)
        self._cursor = page.cursor
        self._ended = page.cursor is None
        return jobs


def submit(body: Mapping[str, Any], key: str | None = None) -> Call[Job]:
    """`POST /v1/jobs`. With its idempotency key a retry is safe; None makes a new key."""
    return _post("/v1/jobs", encode(body), key, _job)


def submit_many(requests: Iterable[str | Mapping[str, Any]]) -> Iterator[Call[tuple[Job, ...]]]:
    """`POST /v1/jobs:batch`, once per `BATCH_JOBS`; each is all or nothing."""
    bodies = [encode({"prompt": it} if isinstance(it, str) else it) for it in requests]
    for start in range(0, len(bodies), BATCH_JOBS):
        content = b'{"jobs":[' + b",".join(bodies[start : start + BATCH_JOBS]) + b"]}"
        yield _post("/v1/jobs:batch", content, None, lambda body: _page(body).jobs)


def job(job_id: str, hold_s: int = 0) -> Call[Job]:
    """`GET /v1/jobs/{id}`, a long poll: the farm may hold its answer for `hold_s` seconds."""
    if not hold_s:
        return Call(Request("GET", path(job_id)), _job)
    timeout_s = hold_s + HOLD_GRACE_S
    return Call(Request("GET", path(job_id), {"wait": hold_s}, timeout_s=timeout_s), _job)


def list_jobs(*, limit: int = PAGE_JOBS, **params: str | None) -> Call[Page]:
    """`GET /v1/jobs`; `params` are its `status`, `model` and `cursor`."""
    given = {name: value for name, value in params.items() if value is not None}
    return Call(Request("GET", "/v1/jobs", {**given, "limit": limit}), _page)


def cancel(job_id: str) -> Call[Job]:
    """`POST /v1/jobs/{id}/cancel`."""
    return Call(Request("POST", path(job_id, "/cancel")), _job)


def models() -> Call[tuple[Model, ...]]:
    """`GET /v1/models`."""

    def parse(body: bytes) -> tuple[Model, ...]:
        return tuple(Model.from_json(model) for model in json.loads(body)["models"])

    return Call(Request("GET", "/v1/models"), parse)


def download(url: str) -> Call[bytes]:
    """Download from a presigned URL, which needs no API key."""
    return Call(Request("GET", url, public=True), bytes)


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Where to PUT an upload (a presigned URL), and the key by which requests name it."""

    key: str
    url: str
    headers: Mapping[str, str]


def create_upload() -> Call[UploadTarget]:
    """`POST /v1/uploads`."""

    def parse(body: bytes) -> UploadTarget:
        answer = json.loads(body)
        return UploadTarget(answer["key"], answer["url"], dict(answer["headers"]))

    return Call(Request("POST", "/v1/uploads"), parse)


def put_upload(target: UploadTarget, data: bytes) -> Call[None]:
    """PUT an upload to its presigned URL, which needs no API key."""
    request = Request("PUT", target.url, headers=target.headers, content=data, public=True)
    return Call(request, lambda _: None)


def path(job_id: str, tail: str = "") -> str:
    """Return a job's path. Raises ValueError for an empty id, which would be another resource."""
    if not job_id:
        raise ValueError("the job id is empty")
    return f"/v1/jobs/{quote(job_id, safe='')}{tail}"


def encode(body: Mapping[str, Any]) -> bytes:
    """Encode a request as strict JSON, without the fields that are None.

    Raises InvalidRequest naming each field that JSON cannot represent.
    """
    bad = tuple(
        errors.FieldError(name, reason)
        for name, value in body.items()
        if (reason := _json_error(value))
    )
    if bad:
        raise errors.InvalidRequest(422, "invalid_request", "the request is not JSON", bad)
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def problem(answer: Answer, now: datetime) -> errors.ApiError:
    """Return the error of a 4xx or 5xx answer, of the farm or of a proxy in between."""
    try:
        members = json.loads(answer.body)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        members = {"detail": answer.body[:200].decode(errors="replace").strip()}
    default = errors.ServerError if answer.status >= 500 else errors.ApiError
    return errors.BY_STATUS.get(answer.status, default)(
        answer.status,
        str(members.get("code") or "unknown"),
        str(members.get("detail") or members.get("title") or "the farm refused the request"),
        _fields(members.get("fields")),
        retry_after_s(answer.headers, now),
    )


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read `Retry-After`, in either of its forms (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _post(url: str, content: bytes, key: str | None, parse: Callable[[bytes], T]) -> Call[T]:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key or str(uuid.uuid4())}
    return Call(Request("POST", url, headers=headers, content=content), parse)


def _job(body: bytes) -> Job:
    return Job.from_json(json.loads(body))


def _page(body: bytes) -> Page:
    data = json.loads(body)
    return Page(tuple(Job.from_json(each) for each in data["jobs"]), data.get("cursor"))


def _fields(named: object) -> tuple[errors.FieldError, ...]:
    return tuple(
        errors.FieldError(str(each.get("field", "?")), str(each.get("message", "")))
        for each in (named if isinstance(named, list) else [])
        if isinstance(each, dict)
    )


def _json_error(value: object) -> str | None:
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError) as error:
        return str(error)
    return None
