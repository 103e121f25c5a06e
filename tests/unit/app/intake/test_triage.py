"""What becomes of each message of a batch, for every way a batch can be."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from app.errors import (
    FieldError,
    IdempotencyConflict,
    InvalidJson,
    InvalidRequest,
    OverQuota,
    TooLarge,
    UnknownModel,
    Unstorable,
)
from app.intake.triage import MAX_DETAIL_CHARS, Good, Outcome, admit, sort, submission
from app.jobs.records import NewJob
from renderfarm.queues import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE = "redis://host:6379/0?stream=jobs"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def message(name: str) -> Message:
    """A message that is called so."""
    return Message(name.encode(), name, 1, {}, name)


def job(name: str) -> NewJob:
    """The job of the message that is called so."""
    return NewJob(UUID(int=0), UUID(int=1), name, bytes(32), {})


def goods(letters: str) -> tuple[Good, ...]:
    """A message for each letter: what the records make of it is what the letter says."""
    return tuple(
        Good(message(f"{letter}{n}"), job(f"{letter}{n}")) for n, letter in enumerate(letters)
    )


class MemoryStorage:
    """All or none: `g` is new, `r` a repeat, `c` a conflict, `u` unstorable; `room` is a limit."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.stored: list[str] = []
        self.tries: list[int] = []

    def store(self, jobs: Sequence[NewJob]) -> int:
        """Store jobs, as `Records.store` does."""
        names = [each.idempotency_key for each in jobs]
        self.tries.append(len(names))
        if any(name[0] == "c" for name in names):
            raise IdempotencyConflict("used with another body")
        if any(name[0] == "u" for name in names):
            raise Unstorable("no room\nin a jsonb")
        new = [name for name in names if name[0] == "g"]
        if len(new) > self.room:
            raise OverQuota("too many wait", retry_after_s=5)
        self.room -= len(new)
        self.stored += new
        return len(new)


def test_a_good_batch_is_one_transaction() -> None:
    """What can be stored together is, whole."""
    shelf = MemoryStorage()
    outcome = admit(goods("grgg"), shelf.store)
    assert shelf.tries == [4]
    assert outcome == Outcome(accepted=goods("grgg"), made=3)


def test_no_message_is_no_transaction() -> None:
    """Nothing good, nothing to store."""
    shelf = MemoryStorage()
    assert admit((), shelf.store) == Outcome()
    assert shelf.tries == []


@pytest.mark.parametrize("room", [0, 1, 2, 5])
def test_every_batch_of_five_comes_apart_as_one_by_one_would(room: int) -> None:
    """Each message is accepted, refused or waits, once, in order, and bad ones cost no other."""
    for letters in product("grcu", repeat=5):
        shelf = MemoryStorage(room)
        batch = goods("".join(letters))
        outcome = admit(batch, shelf.store)
        left = room
        accepted: list[Any] = []
        refused: list[Any] = []
        waiting: list[Any] = []
        for good in batch:
            kind = good.message.id[0]
            if waiting or (kind == "g" and not left):
                waiting.append(good)
            elif kind in "cu":
                refused.append(good.message)
            else:
                accepted.append(good)
                left -= kind == "g"
        assert list(outcome.accepted) == accepted
        assert [bad.message for bad in outcome.refused] == refused
        assert list(outcome.waiting) == waiting
        assert outcome.made == room - left == len(shelf.stored)


def test_one_bad_message_of_a_hundred_costs_few_transactions() -> None:
    """Halving finds it: about two tries for each halving, not one for each message."""
    shelf = MemoryStorage()
    admit(goods("g" * 60 + "c" + "g" * 39), shelf.store)
    assert len(shelf.stored) == 99
    assert len(shelf.tries) <= 15


def test_without_room_nothing_is_tried_after_the_first_that_waits() -> None:
    """A full queue is asked a few times for a batch, not once for each message."""
    shelf = MemoryStorage(0)
    outcome = admit(goods("g" * 64), shelf.store)
    assert len(outcome.waiting) == 64
    assert len(shelf.tries) == 7


def test_each_message_is_checked_by_itself() -> None:
    """One that is refused, or that trips the program, leaves the others good."""

    def check(each: Message) -> NewJob:
        if each.id == "bad":
            raise InvalidJson("the body is not valid JSON")
        if each.id == "trap":
            raise ZeroDivisionError
        return job(each.id)

    good, bad = sort([message(name) for name in ("a", "bad", "b", "trap", "c")], check)
    assert [each.message.id for each in good] == ["a", "b", "c"]
    assert [(each.message.id, each.code) for each in bad] == [
        ("bad", "invalid_json"),
        ("trap", "unreadable"),
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TooLarge("the body has 300000 bytes"), "too_large: the body has 300000 bytes"),
        (
            UnknownModel("unknown model", (FieldError("model", "there is no model 'x'"),)),
            "unknown_model: model: there is no model 'x'",
        ),
        (
            InvalidRequest("summary", (FieldError("a", "is odd"), FieldError("b", "is even"))),
            "invalid_request: a: is odd; b: is even",
        ),
        (
            IdempotencyConflict("was used\nwith\0another"),
            "idempotency_conflict: was used with another",
        ),
    ],
)
def test_a_reason_is_a_stable_code_and_words(error: InvalidRequest, reason: str) -> None:
    """The dead-letter says in one printable line what is wrong, each field by its name."""

    def check(_: Message) -> NewJob:
        raise error

    (bad,) = sort([message("m")], check)[1]
    assert bad.reason == reason


def test_a_reason_is_bounded() -> None:
    """A message cannot fill the records through its own complaint."""

    def check(_: Message) -> NewJob:
        raise InvalidRequest("x" * 100_000)

    (bad,) = sort([message("m")], check)[1]
    assert len(bad.detail) == MAX_DETAIL_CHARS


def body(**fields: object) -> bytes:
    """A message's body."""
    return json.dumps({"prompt": "a red circle", **fields}).encode()


def test_a_message_with_an_id_is_known_by_it() -> None:
    """The producer's id is the job's, and the key: the message's own name plays no part."""
    job_id = uuid4()
    asked = submission(SOURCE, "m1", body(id=str(job_id)), {})
    assert asked.request.model_dump()["id"] == job_id
    assert asked.key is None


def test_a_message_without_an_id_is_known_by_its_messages() -> None:
    """The same message of the same source has the same key; any other has another."""
    keys = {
        submission(source, name, data, {}).key
        for source, name in ((SOURCE, "m1"), (SOURCE, "m2"), ("sqs://r/q", "m1"))
        for data in (body(), body(id=None), body(seed=1))
    }
    assert len(keys) == 3
    assert None not in keys


def test_any_name_of_a_message_makes_a_key() -> None:
    """Services name messages as they like: long, empty or with any character."""
    for name in ("", "x" * 10_000, "\0", "ü\n"):
        key = submission(SOURCE, name, body(), {}).key
        assert key is not None
        assert len(key) == 64


def test_the_trace_is_read_off_the_attributes() -> None:
    """A good traceparent is taken along; a bad one is left out, and the message is good still."""
    assert submission(SOURCE, "m", body(), {"traceparent": TRACE}).trace == TRACE
    assert submission(SOURCE, "m", body(), {"traceparent": "00-x"}).trace is None
    assert submission(SOURCE, "m", body(), {}).trace is None
