"""The device thread at its ends: stops, losses, what never started, what stands still."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.unit.workers.scripted import NEVER_S, PATIENCE_S, Scripted, Start, request, start
from workers.device.null import NullEngine
from workers.device.runtime import Runtime
from workers.engine.request import DeviceLost
from workers.errors import RenderCancelled, RenderDrained

__all__ = ["start"]


@pytest.mark.parametrize("how", ["lose", "break"])
def test_a_lost_device_ends_every_future_and_takes_nothing_more(start: Start, how: str) -> None:
    """Who was on it hears DeviceLost; who waits to be taken or comes later is free to go; none hangs."""
    engine = Scripted()
    engine.leave.clear()
    runtime = start(engine)
    under_way = runtime.submit(request("a", prompt=how))
    assert engine.entered.wait(PATIENCE_S)
    in_the_inbox = runtime.submit(request("b"))
    engine.leave.set()
    with pytest.raises(DeviceLost):
        under_way.result(PATIENCE_S)
    for future in (in_the_inbox, runtime.submit(request("c"))):
        with pytest.raises(RenderCancelled):
            future.result(PATIENCE_S)
    assert runtime.lost
    assert runtime.ended


def test_stopping_ends_what_is_unfinished_and_takes_nothing_more() -> None:
    """After a stop each future is cancelled, those that come too late among them."""
    runtime = Runtime(lambda: NullEngine({"quick": NEVER_S}))
    runtime.start()
    under_way = runtime.submit(request("a"))
    runtime.stop()
    for future in (under_way, runtime.submit(request("b"))):
        with pytest.raises(RenderCancelled):
            future.result(PATIENCE_S)
    assert runtime.ended
    assert runtime.lost is None
    runtime.stop()


def test_stopping_gives_each_job_its_checkpoint() -> None:
    """Whoever waits for a job that is under way is told where another worker goes on."""
    engine = Scripted()
    engine.leave.clear()
    runtime = Runtime(lambda: engine)
    runtime.start()
    first = runtime.submit(request("a"))
    assert engine.entered.wait(PATIENCE_S)
    second = runtime.submit(request("b"), checkpoint=b"old")
    stopping = threading.Thread(target=runtime.stop)
    stopping.start()
    engine.leave.set()
    stopping.join(PATIENCE_S)
    assert first.result(PATIENCE_S).seeds == (7,)  # its step was under way
    with pytest.raises(RenderDrained) as left:
        second.result(PATIENCE_S)
    assert left.value.checkpoint == b"b"
    assert engine.checkpoints == {"a": None, "b": b"old"}


def test_a_job_whose_checkpoint_is_broken_begins_anew(start: Start) -> None:
    """A checkpoint that cannot be used costs the steps it held, never the job."""
    engine = Scripted()
    runtime = start(engine)
    future = runtime.submit(request("a"), checkpoint=b"broken")
    assert future.result(PATIENCE_S).seeds == (7,)
    assert engine.checkpoints == {"a": None}


def test_an_engine_that_cannot_be_built_is_told_at_the_start() -> None:
    """The error of loading comes out of `start`, and stopping then is harmless."""

    def build() -> Any:
        raise FileNotFoundError("no such model")

    runtime = Runtime(build)
    runtime.stop()
    runtime = Runtime(build)
    with pytest.raises(FileNotFoundError):
        runtime.start()
    runtime.stop()


def test_an_idle_device_is_never_stuck(start: Start) -> None:
    """Only a device that has work and does not move is stuck, however long it was idle."""
    engine = Scripted()
    runtime = start(engine)
    runtime.stepped_at -= 1000.0
    assert runtime.stuck_s() == 0.0
    engine.leave.clear()
    future = runtime.submit(request("a"))
    assert engine.entered.wait(PATIENCE_S)
    assert runtime.stuck_s() < 1000.0
    runtime.stepped_at -= 1000.0
    assert runtime.stuck_s() > 1000.0
    engine.leave.set()
    future.result(PATIENCE_S)
