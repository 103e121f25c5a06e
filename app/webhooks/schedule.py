"""When to try a delivery again, and when to stop. Pure: the clock and the dice are passed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DELAYS_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The wait before each try, counted from the one before. Three days in all, as the Standard
Webhooks specification gives it under "Deliverability and reliability"."""

JITTER = 0.1
"""Each wait is stretched or shrunk by up to this share, so that failures do not come in step."""

MAX_RETRY_AFTER_S = 86_400.0
"""An endpoint may put us off for a day at most."""

GONE = 410


@dataclass(frozen=True, slots=True)
class Answered:
    """The endpoint answered. `excerpt` is the beginning of what it said."""

    status: int
    retry_after_s: float | None = None
    excerpt: str = ""

    @property
    def delivered(self) -> bool:
        """Whether it took the webhook. A redirect did not: following it would leave our checks."""
        return 200 <= self.status <= 299


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No answer came: no connection, no time left, or not HTTP. `ours`: it was not even sent."""

    error: str
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Unsendable:
    """The URL is one that this farm never posts to, however often it tries."""

    error: str


Answer = Answered | Unanswered | Unsendable


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint has it. Final."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again `delay_s` seconds from now."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Dead:
    """No further try, unless somebody asks for a replay."""

    reason: str


Decision = Delivered | RetryAt | Dead


def decide(tries: int, answer: Answer, random: Callable[[], float]) -> Decision:
    """Say what follows the answer to try number `tries` (the first is 1).

    `random` draws from [0, 1). An endpoint's Retry-After can only lengthen a wait: were it to
    shorten one, "0" would burn all tries in a second.
    """
    match answer:
        case Answered(delivered=True):
            return Delivered()
        case Answered(status=status) if status == GONE:
            return Dead("the endpoint answered 410: it wants no more webhooks")
        case Unsendable(error):
            return Dead(error)
    if tries >= len(DELAYS_S):
        return Dead(f"{tries} tries failed, the last so: {failure(answer)}")
    asked_s = answer.retry_after_s if isinstance(answer, Answered) else None
    wait_s = DELAYS_S[tries] * (1 + JITTER * (2 * random() - 1))
    return RetryAt(max(wait_s, min(asked_s or 0.0, MAX_RETRY_AFTER_S)))


def failure(answer: Answer) -> str | None:
    """What went wrong, for the delivery log; None where nothing did."""
    if not isinstance(answer, Answered):
        return answer.error
    if answer.delivered:
        return None
    return f"answered {answer.status}" + (f": {answer.excerpt}" if answer.excerpt else "")


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for: a whole number, or a date (RFC 9110, 10.2.3).

    None for a header that is missing or says neither. A date in the past asks for no wait.
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
