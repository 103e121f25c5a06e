"""The `null` models in the device thread, alone and with other engines."""

from __future__ import annotations

import pytest

from tests.unit.workers.scripted import NEVER_S, PATIENCE_S, Start, request, start
from workers.device.build import Mixed
from workers.device.null import NullEngine
from workers.errors import RenderCancelled

__all__ = ["start"]


def test_a_null_model_gives_grey_pictures_of_the_requested_size(start: Start) -> None:
    """The fake engine answers like a real one: pixels, consecutive seeds, steps."""
    runtime = start(NullEngine({"quick": 0.0}))
    done = runtime.submit(request("a", num_images=2)).result(PATIENCE_S)
    assert [pixels.shape for pixels in done.pixels] == [(8, 16, 3)] * 2
    assert (done.seeds, done.steps) == ((7, 8), 4)
    assert runtime.stats() == {"done": 1}


def test_null_jobs_wait_concurrently() -> None:
    """Each job ends after its own delay from its addition; then the engine is idle."""
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
    """A cancelled job that is due in the same step ends as cancelled."""
    engine = NullEngine({"quick": 0.0})
    engine.add(request("a"))
    assert engine.cancel("a")
    assert engine.cancel("a")
    assert [type(out).__name__ for out in engine.step()] == ["Cancelled"]
    assert not engine.cancel("a")
    assert engine.idle


def test_two_engines_serve_their_own_models(start: Start) -> None:
    """A worker with two engines gives each request to the engine of its model, and loses none."""
    quick, never = NullEngine({"quick": 0.0}), NullEngine({"never": NEVER_S})
    runtime = start(Mixed([quick, never], {"quick": quick, "never": never}))
    waits = runtime.submit(request("a", "never"))
    assert runtime.submit(request("b", "quick")).result(PATIENCE_S).id == "b"
    runtime.cancel("a")
    with pytest.raises(RenderCancelled):
        waits.result(PATIENCE_S)
