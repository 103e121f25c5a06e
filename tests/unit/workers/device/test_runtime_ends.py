"""How the device thread ends: stopped, lost, failed at the start, stuck."""

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
def test_a_lost_device_ends_every_future_and_accepts_no_more(start: Start, how: str) -> None:
    """Jobs in the engine raise DeviceLost; waiting and later ones are cancelled; none hangs."""
    engine = Scripted()
    engine.leave.clear()
    runtime = start(engine)
    in_progress = runtime.submit(request("a", prompt=how))
    assert engine.entered.wait(PATIENCE_S)
    in_the_inbox = runtime.submit(request("b"))
    engine.leave.set()
    with pytest.raises(DeviceLost):
        in_progress.result(PATIENCE_S)
    for future in (in_the_inbox, runtime.submit(request("c"))):
        with pytest.raises(RenderCancelled):
            future.result(PATIENCE_S)
    assert runtime.lost
    assert runtime.ended


def test_a_stop_cancels_unfinished_jobs_and_accepts_no_more() -> None:
    """After a stop each future is cancelled, also those of later requests."""
    runtime = Runtime(lambda: NullEngine({"quick": NEVER_S}))
    runtime.start()
    in_progress = runtime.submit(request("a"))
    runtime.stop()
    for future in (in_progress, runtime.submit(request("b"))):
        with pytest.raises(RenderCancelled):
            future.result(PATIENCE_S)
    assert runtime.ended
    assert runtime.lost is None
    runtime.stop()


def test_a_stop_returns_each_jobs_checkpoint() -> None:
    """The future of an unfinished job raises RenderDrained with its checkpoint."""
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
    assert first.result(PATIENCE_S).seeds == (7,)  # its step had already begun
    with pytest.raises(RenderDrained) as caught:
        second.result(PATIENCE_S)
    assert caught.value.checkpoint == b"b"
    assert engine.checkpoints == {"a": None, "b": b"old"}


def test_a_job_with_a_broken_checkpoint_starts_from_step_0(start: Start) -> None:
    """An unusable checkpoint costs the steps before it, and does not fail the job."""
    engine = Scripted()
    runtime = start(engine)
    future = runtime.submit(request("a"), checkpoint=b"broken")
    assert future.result(PATIENCE_S).seeds == (7,)
    assert engine.checkpoints == {"a": None}


def test_an_engine_that_cannot_be_built_fails_the_start() -> None:
    """`start` raises the error of the build, and `stop` is harmless before and after it."""

    def build() -> Any:
        raise FileNotFoundError("no such model")

    runtime = Runtime(build)
    runtime.stop()
    runtime = Runtime(build)
    with pytest.raises(FileNotFoundError):
        runtime.start()
    runtime.stop()


def test_an_idle_device_is_never_stuck(start: Start) -> None:
    """Only a device with jobs and without progress is stuck; idle time does not count."""
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
