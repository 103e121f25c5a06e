"""Triage of a batch: each message is accepted, rejected with a reason, or waits.

A bad message does not affect its batch. Each message is checked by itself, and the good ones are
stored together. If the database refuses them together, the batch is halved until the message at
fault is alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from app import trace
from app.errors import OverQuota, Refused, UnknownModel
from app.jobs.accept import Submission
from app.jobs.request import QueueMessage, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from app.jobs.records import NewJob
    from renderfarm.queues import Message

log = structlog.get_logger("app.intake")
MAX_DETAIL_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Good:
    """A message that can become a job."""

    message: Message
    job: NewJob


@dataclass(frozen=True, slots=True)
class Bad:
    """A message that cannot become a job. `code` is stable, `detail` helps to correct it."""

    message: Message
    code: str
    detail: str

    @property
    def reason(self) -> str:
        """The reason for the dead-letter queue."""
        return f"{self.code}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of storing some good messages, in order. `made` counts the new jobs."""

    accepted: tuple[Good, ...] = ()
    refused: tuple[Bad, ...] = ()
    waiting: tuple[Good, ...] = ()
    made: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.accepted + other.accepted,
            self.refused + other.refused,
            self.waiting + other.waiting,
            self.made + other.made,
        )


def submission(
    source: str, message_id: str, body: bytes, attributes: Mapping[str, str]
) -> Submission:
    """Parse a message. Raises `Refused`.

    A message without its own id is identified by the service's id.

    So it becomes one job however often it is delivered, as long as the service's id stays the same.
    """
    request = parse(body, QueueMessage)
    named = isinstance(request, QueueMessage) and request.id is not None
    key = None if named else hashlib.sha256(f"{source}\n{message_id}".encode()).hexdigest()
    return Submission(request, key, trace.read(attributes.get(trace.NAME)))


def sort(
    messages: Sequence[Message], check: Callable[[Message], NewJob]
) -> tuple[tuple[Good, ...], tuple[Bad, ...]]:
    """Check each message by itself; `check` raises `Refused` for a bad one."""
    good, bad = [], []
    for message in messages:
        try:
            good.append(Good(message, check(message)))
        except Refused as error:
            bad.append(_bad(message, error))
        except Exception as error:
            # A message that trips the program must not block all others; it can be replayed.
            log.exception("message_unreadable", message=message.id)
            bad.append(Bad(message, "unreadable", type(error).__name__))
    return tuple(good), tuple(bad)


def admit(good: tuple[Good, ...], store: Callable[[Sequence[NewJob]], int]) -> Outcome:
    """Store all together, or halve until each is alone; messages without room wait.

    `store` commits all or none: it returns how many jobs it made, or raises `Refused`. After the
    first one without room, nothing more is tried.
    """
    if not good:
        return Outcome()
    try:
        return Outcome(accepted=good, made=store([each.job for each in good]))
    except Refused as error:
        if len(good) == 1:
            return _alone(good[0], error)
    half = len(good) // 2
    first = admit(good[:half], store)
    if first.waiting:
        return first + Outcome(waiting=good[half:])
    return first + admit(good[half:], store)


def _alone(good: Good, error: Refused) -> Outcome:
    if isinstance(error, OverQuota):
        return Outcome(waiting=(good,))
    return Outcome(refused=(_bad(good.message, error),))


def _bad(message: Message, error: Refused) -> Bad:
    code = "unknown_model" if isinstance(error, UnknownModel) else error.code
    named = "; ".join(f"{each.field}: {each.message}" for each in error.fields)
    return Bad(message, code, _printable(named or error.detail)[:MAX_DETAIL_CHARS])


def _printable(text: str) -> str:
    """Return the text without the characters that Postgres, a header or a terminal cannot take."""
    return "".join(c if c.isprintable() else " " for c in text)
