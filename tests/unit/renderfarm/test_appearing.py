"""Finding a job that was sent to a queue, as soon as the farm knows it."""

from __future__ import annotations

import time
from typing import TypeVar
from uuid import UUID, uuid4

import pytest

from renderfarm import _flows, errors
from renderfarm._calls import Answer

T = TypeVar("T")

ID = "01930000-0000-7000-8000-000000000000"
ABSENT = Answer(404, {}, b'{"code": "not_found", "status": 404, "detail": "no such job"}')
PRESENT = Answer(200, {}, b'{"id": "01930000-0000-7000-8000-000000000000", "status": "queued"}')


class Clock:
    """A clock that moves only while a flow sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def play(flow: _flows.Flow[T], replies: list[Answer], clock: Clock) -> T:
    """Run a flow on these replies. Return its result."""
    try:
        action = next(flow)
        while True:
            if isinstance(action, _flows.Sleep):
                clock.now += action.seconds
                action = flow.send(None)
            else:
                action = flow.send(replies.pop(0))
    except StopIteration as end:
        result: T = end.value
        return result


def policy(clock: Clock) -> _flows.Policy:
    """No retries: a 404 is final for a call."""
    return _flows.Policy(max_retries=0, clock=clock, random=lambda: 0.0)


def test_a_job_is_looked_for_until_it_appears() -> None:
    """`find` repeats its request after each 404, with a pause, until the job exists."""
    clock = Clock()
    job = play(_flows.find(ID, 10.0, policy(clock)), [ABSENT, ABSENT, PRESENT], clock)
    assert (job.id, clock.now) == (ID, 2 * _flows.APPEAR_PAUSE_S)


def test_a_job_that_stays_away_is_not_found() -> None:
    """`find` raises NotFound after `appear_s` seconds, and at once if that is 0."""
    clock = Clock()
    with pytest.raises(errors.NotFound):
        play(_flows.find(ID, 0.5, policy(clock)), [ABSENT] * 9, clock)
    assert clock.now <= 0.5
    with pytest.raises(errors.NotFound):
        play(_flows.find(ID, 0.0, policy(clock)), [ABSENT], clock)


def test_only_fresh_ids_are_waited_for() -> None:
    """Only an id of version 7 that was made in the last minute gets time to appear."""
    now_s = time.time()
    fresh = UUID(int=(int(now_s * 1000) << 80) | (7 << 76) | (2 << 62))
    assert _flows.appearance_s(str(fresh), now_s) == _flows.APPEAR_S
    assert _flows.appearance_s(str(fresh), now_s + 3600) == 0
    assert _flows.appearance_s(str(uuid4()), now_s) == 0
    assert _flows.appearance_s("nonsense", now_s) == 0
