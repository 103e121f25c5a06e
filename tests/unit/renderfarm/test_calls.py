"""Calls of the HTTP contract: requests and answers, without a network."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest

from renderfarm import _calls, errors
from renderfarm._calls import Answer
from renderfarm.types import Job

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def refused(status: int, body: object = None, **headers: str) -> errors.ApiError:
    """Return the error of an answer with this status."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return _calls.problem(Answer(status, names, json.dumps(body).encode()), NOW)


def test_submit_leaves_out_what_is_none() -> None:
    """A field that is None is not sent, so the farm uses the model's default."""
    request = _calls.submit({"prompt": "a", "seed": None, "width": 64}, "key").request
    assert json.loads(request.content or b"") == {"prompt": "a", "width": 64}
    assert request.headers["Idempotency-Key"] == "key"


def test_each_submission_has_its_own_key() -> None:
    """Two submissions of the same request are two jobs, because each has a new idempotency key."""
    first, second = (_calls.submit({"prompt": "a"}).request.headers for _ in range(2))
    assert first["Idempotency-Key"] != second["Idempotency-Key"]


def test_values_json_has_no_form_for_are_named() -> None:
    """NaN, infinities and objects are refused before sending; the error names each field."""
    body = {"prompt": "a", "guidance_scale": math.nan, "strength": math.inf, "metadata": {1j: 2}}
    with pytest.raises(errors.InvalidRequest) as caught:
        _calls.submit(body)
    assert [each.field for each in caught.value.fields] == [
        "guidance_scale",
        "strength",
        "metadata",
    ]


def test_many_are_sent_by_the_thousand() -> None:
    """2,001 prompts become three batches, in order, each with its own idempotency key."""
    calls = list(_calls.submit_many(str(n) for n in range(2_001)))
    sent = [json.loads(call.request.content or b"")["jobs"] for call in calls]
    assert [len(jobs) for jobs in sent] == [1_000, 1_000, 1]
    assert [job["prompt"] for jobs in sent for job in jobs] == [str(n) for n in range(2_001)]
    assert len({call.request.headers["Idempotency-Key"] for call in calls}) == 3


def test_job_ids_cannot_lead_elsewhere() -> None:
    """An id is quoted into one path segment, and an empty one is refused."""
    assert _calls.job("../models?x").request.url == "/v1/jobs/..%2Fmodels%3Fx"
    with pytest.raises(ValueError, match="empty"):
        _calls.job("")


def test_held_answers_may_take_longer() -> None:
    """The timeout of a long poll is longer than the wait that it asks for."""
    request = _calls.job("1", 20).request
    assert request.params == {"wait": 20}
    assert (request.timeout_s or 0) > 20


def test_listing_ends_at_its_limit() -> None:
    """A listing requests only the jobs that it needs, and returns at most `limit`."""
    listing = _calls.Listing(None, None, 101)
    queued = Job.from_json({"id": "1", "status": "queued"})
    limits = []
    while call := listing.next_call():
        limits.append(call.request.params["limit"])
        listing.take(_calls.Page((queued,) * 100, "more"))
    assert limits == [100, 1]


def test_unknown_states_are_a_mistake() -> None:
    """Listing by an unknown state raises ValueError and does not return an empty list."""
    with pytest.raises(ValueError, match="finished"):
        _calls.Listing("finished", None, None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (418, errors.ApiError),
        (422, errors.InvalidRequest),
        (429, errors.RateLimited),
        (500, errors.ServerError),
        (599, errors.ServerError),
    ],
)
def test_statuses_become_errors(status: int, kind: type[errors.ApiError]) -> None:
    """Each HTTP status becomes its own error class."""
    assert type(refused(status, {"code": "c", "detail": "d"})) is kind


def test_problem_names_each_field() -> None:
    """The text of a 422 contains the detail, the code, and each bad field with its reason."""
    fields = [{"field": "width", "message": "odd"}, {"field": "seed", "message": "low"}]
    error = refused(422, {"code": "invalid_request", "detail": "no", "fields": fields})
    assert error.fields == (errors.FieldError("width", "odd"), errors.FieldError("seed", "low"))
    assert str(error) == "no (422 invalid_request)\n  width: odd\n  seed: low"


def test_nothing_is_said_twice() -> None:
    """A field's reason that the detail already contains is not repeated."""
    fields = [{"field": "width", "message": "must be even"}]
    error = refused(422, {"code": "c", "detail": "width must be even", "fields": fields})
    assert str(error) == "width must be even (422 c)"


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"[1]", b'{"fields": 7}', b"\xff"])
def test_foreign_error_pages_are_understood(body: bytes) -> None:
    """A proxy's error page or a malformed problem document becomes the error of its status."""
    error = _calls.problem(Answer(502, {}, body), NOW)
    assert isinstance(error, errors.ServerError)
    assert error.status == 502


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("1e9", None),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("", None),
    ],
)
def test_retry_after_in_both_forms(value: str, seconds: float | None) -> None:
    """Retry-After is read as seconds or as a date; any other value is ignored."""
    assert refused(429, retry_after=value).retry_after_s == seconds


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"id": "1"}', b'{"jobs": 3}'])
def test_an_answer_that_is_no_job_is_named(body: bytes) -> None:
    """A 200 from no farm raises BadAnswer, with the URL and the start of the body."""
    with pytest.raises(errors.BadAnswer, match="/v1/jobs/1"):
        _calls.job("1").read(Answer(200, {}, body))


def test_redirects_are_not_followed_with_the_key() -> None:
    """A redirect raises BadAnswer and names its target: the key must not be sent there."""
    with pytest.raises(errors.BadAnswer, match="https://farm"):
        _calls.job("1").read(Answer(301, {"location": "https://farm"}, b""))
