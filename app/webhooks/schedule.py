"""Retry schedule (backoff): when a delivery is tried again, and when to give up. Plain Python.

The clock and the random numbers are passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DELAYS_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The wait before each try, counted from the one before. A little more than three days in all, from
the Standard Webhooks specification, "Deliverability and reliability".
"""

JITTER = 0.1
"""Jitter: each wait is longer or shorter by up to this share, so that failures do not synchronize.
"""

MAX_RETRY_AFTER_S = 86_400.0
"""An endpoint may delay the next try by at most one day."""

GONE = 410


@dataclass(frozen=True, slots=True)
class Answered:
    """The endpoint answered. `excerpt` is the beginning of its answer."""

    status: int
    retry_after_s: float | None = None
    excerpt: str = ""

    @property
    def delivered(self) -> bool:
        """Whether it accepted the webhook.

        A redirect is no success: following it would bypass the SSRF guard.
        """
        return 200 <= self.status <= 299


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No answer came: no connection, a timeout, or not HTTP.

    `ours`: the request was not even sent.
    """

    error: str
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Unsendable:
    """This farm never posts to the URL, however often it tries."""

    error: str


Answer = Answered | Unanswered | Unsendable


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint has accepted the delivery. Final."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The next try is `delay_s` seconds from now."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Dead:
    """No further try, except by a replay."""

    reason: str


Decision = Delivered | RetryAt | Dead


def decide(tries: int, answer: Answer, random: Callable[[], float]) -> Decision:
    """Decide what follows the answer to try number `tries` (the first is 1).

    `random` draws from [0, 1). An endpoint's Retry-After can only lengthen a wait. If it could
    shorten one, "0" would use up all tries in a second.
    """
    match answer:
        case Answered(delivered=True):
            return Delivered()
        case Answered(status=status) if status == GONE:
            return Dead("the endpoint answered 410 Gone")
        case Unsendable(error):
            return Dead(error)
    if tries >= len(DELAYS_S):
        return Dead(f"{tries} tries failed; the last error: {failure(answer)}")
    asked_s = answer.retry_after_s if isinstance(answer, Answered) else None
    wait_s = DELAYS_S[tries] * (1 + JITTER * (2 * random() - 1))
    return RetryAt(max(wait_s, min(asked_s or 0.0, MAX_RETRY_AFTER_S)))


def failure(answer: Answer) -> str | None:
    """Return the error for the delivery log; None if there was none."""
    if not isinstance(answer, Answered):
        return answer.error
    if answer.delivered:
        return None
    return f"answered {answer.status}" + (f": {answer.excerpt}" if answer.excerpt else "")


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return the seconds in a Retry-After header: a number, or a date (RFC 9110, 10.2.3).

    None if the header is missing or invalid. A date in the past means no wait.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a year or a zone of twenty digits
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())
