"""The schedule, to its last branch."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.webhooks.schedule import (
    DELAYS_S,
    Answer,
    Answered,
    Dead,
    Delivered,
    RetryAt,
    Unanswered,
    Unsendable,
    decide,
    failure,
    retry_after_s,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LAST = len(DELAYS_S)


def middle() -> float:
    """Dice that neither stretch nor shrink."""
    return 0.5


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_delivers(status: int) -> None:
    """A 2xx answer delivers the webhook, even on the last try."""
    assert decide(1, Answered(status), middle) == Delivered()
    assert decide(LAST, Answered(status), middle) == Delivered()


@pytest.mark.parametrize(
    "answer",
    [
        Answered(199),
        Answered(300),
        Answered(301),
        Answered(400),
        Answered(404),
        Answered(429),
        Answered(500),
        Answered(503),
        Unanswered("no answer within 15 s"),
    ],
)
def test_every_other_answer_is_tried_again_and_dies_in_the_end(answer: Answer) -> None:
    """A redirect, an error and a silence are retried as long as tries are left, then die."""
    assert decide(1, answer, middle) == RetryAt(5)
    end = decide(LAST, answer, middle)
    assert isinstance(end, Dead)
    assert str(failure(answer)) in end.reason


def test_waits_follow_the_standard_schedule() -> None:
    """There are ten tries; the waits between them are the specification's."""
    waits = [decide(tries, Answered(500), middle) for tries in range(1, LAST)]
    assert waits == [
        RetryAt(s) for s in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
    ]
    assert LAST == 10


def test_jitter_spreads_a_wait_by_a_tenth_either_way() -> None:
    """The lowest draw shortens a wait by 10 %, the highest lengthens it by almost 10 %."""
    assert decide(2, Answered(500), lambda: 0.0) == RetryAt(pytest.approx(270))
    assert decide(2, Answered(500), lambda: 1.0) == RetryAt(pytest.approx(330))


def test_410_is_dead_at_once() -> None:
    """An endpoint that answers 410 Gone is not tried again."""
    assert isinstance(decide(1, Answered(410), middle), Dead)


def test_a_forbidden_url_is_dead_at_once() -> None:
    """A URL that is never posted to keeps its reason and is not tried again."""
    assert decide(1, Unsendable("the URL names no host"), middle) == Dead("the URL names no host")


def test_retry_after_lengthens_a_wait() -> None:
    """An endpoint that asks for more time than the schedule gives gets it."""
    assert decide(1, Answered(503, retry_after_s=120), middle) == RetryAt(120)


def test_retry_after_never_shortens_a_wait() -> None:
    """Retry-After: 0 does not burn the tries."""
    assert decide(4, Answered(503, retry_after_s=0), middle) == RetryAt(7_200)


def test_retry_after_is_capped_at_a_day() -> None:
    """No endpoint puts a webhook off for more than a day."""
    assert decide(1, Answered(503, retry_after_s=float("inf")), middle) == RetryAt(86_400)


def test_retry_after_adds_no_try() -> None:
    """An endpoint that asks for time on the last try is given none."""
    assert isinstance(decide(LAST, Answered(503, retry_after_s=60), middle), Dead)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("9" * 400, float("inf")),
        ("Sun, 01 Mar 2026 12:02:00 GMT", 120),
        ("Sunday, 01-Mar-26 12:02:00 GMT", 120),
        ("Sun Mar  1 12:02:00 2026", 120),
        ("Sun, 01 Mar 2026 12:02:00 -0000", 120),
        ("Sun, 01 Mar 2026 14:02:00 +0200", 120),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("Sun, 99 Mar 2026 12:02:00 GMT", None),
        ("Sun, 01 Mar 99999999999999999999 12:02:00 GMT", None),
        ("Sun, 01 Mar 2026 12:02:00 +9999999999999", None),
        ("Sun, 01 Mar 2026 12:02:00 +9999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    """Whole seconds and all three HTTP date forms are read; anything else counts as not said."""
    assert retry_after_s(header, NOW) == seconds


def test_failure_says_what_went_wrong() -> None:
    """A failure names its status and the endpoint's own words; a success names nothing."""
    assert failure(Answered(204)) is None
    assert failure(Answered(500)) == "answered 500"
    assert failure(Answered(500, excerpt="no disk")) == "answered 500: no disk"
    assert failure(Unanswered("no connection")) == "no connection"
