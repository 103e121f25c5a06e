"""The `null` models, alone and beside others, in the device thread."""

from __future__ import annotations

import pytest

from tests.unit.workers.scripted import NEVER_S, PATIENCE_S, Start, request, start
from workers.device.build import Mixed
from workers.device.null import NullEngine
from workers.errors import RenderCancelled

__all__ = ["start"]


def test_a_null_model_gives_a_grey_picture_of_the_size_asked_for(start: Start) -> None:
    """The stand-in answers like an engine: pixels, seeds counted up, steps."""
    runtime = start(NullEngine({"quick": 0.0}))
    done = runtime.submit(request("a", num_images=2)).result(PATIENCE_S)
    assert [pixels.shape for pixels in done.pixels] == [(8, 16, 3)] * 2
    assert (done.seeds, done.steps) == ((7, 8), 4)
    assert runtime.stats() == {"done": 1}


def test_null_jobs_wait_side_by_side() -> None:
    """Each is done after its own delay, counted from when it came; then all is idle."""
    now = [0.0]
    engine = NullEngine({"slow": 2.0, "quick": 1.0}, clock=lambda: now[0])
    engine.add(request("a", "slow"))
    engine.add(request("b", "quick"))
    assert engine.step() == []
    now[0] = 1.0
    assert [out.id for out in engine.step()] == ["b"]
    engine.add(request("c", "quick"))
    now[0] = 2.0
    assert {out.id for out in engine.step()} == {"a", "c"}
    assert engine.idle


def test_a_cancelled_null_job_ends_once_and_as_cancelled() -> None:
    """Also when its time has come in the same step."""
    engine = NullEngine({"quick": 0.0})
    engine.add(request("a"))
    assert engine.cancel("a")
    assert engine.cancel("a")
    assert [type(out).__name__ for out in engine.step()] == ["Cancelled"]
    assert not engine.cancel("a")
    assert engine.idle


def test_two_engines_serve_their_own_models(start: Start) -> None:
    """A worker of several kinds of models gives each request to its engine and loses none."""
    quick, never = NullEngine({"quick": 0.0}), NullEngine({"never": NEVER_S})
    runtime = start(Mixed([quick, never], {"quick": quick, "never": never}))
    waits = runtime.submit(request("a", "never"))
    assert runtime.submit(request("b", "quick")).result(PATIENCE_S).id == "b"
    runtime.cancel("a")
    with pytest.raises(RenderCancelled):
        waits.result(PATIENCE_S)
