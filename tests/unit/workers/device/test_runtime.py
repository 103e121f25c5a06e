"""The device thread and its futures."""

from __future__ import annotations

import pytest

from tests.unit.workers.scripted import NEVER_S, PATIENCE_S, Scripted, Start, request, start
from workers.device.null import NullEngine
from workers.device.runtime import COMPILE_FACTOR
from workers.errors import RenderCancelled, RenderFailed

__all__ = ["start"]


def test_each_future_gets_its_own_result(start: Start) -> None:
    """Each future ends with the outcome of its own request."""
    runtime = start(NullEngine({"quick": 0.0}))
    futures = {seed: runtime.submit(request(f"job {seed}", seed=seed)) for seed in range(200)}
    assert all(f.result(PATIENCE_S).seeds == (seed,) for seed, f in futures.items())


def test_cancelling_ends_the_future(start: Start) -> None:
    """The future of a cancelled job raises RenderCancelled; other jobs stay."""
    runtime = start(NullEngine({"quick": NEVER_S}))
    stays, leaves = runtime.submit(request("a")), runtime.submit(request("b"))
    runtime.cancel("b")
    runtime.cancel("nobody")
    with pytest.raises(RenderCancelled):
        leaves.result(PATIENCE_S)
    assert not stays.done()


def test_a_faulty_request_ends_no_other_job(start: Start) -> None:
    """If a request is refused, fails or raises in `add`, the other jobs continue."""
    engine = Scripted()
    engine.leave.clear()
    runtime = start(engine)
    good, refused, failed, stumbled = (
        runtime.submit(request(prompt, prompt=prompt))
        for prompt in ("good", "refuse", "fail", "stumble")
    )
    engine.leave.set()
    with pytest.raises(RenderFailed, match="width: too wide") as caught:
        refused.result(PATIENCE_S)
    assert caught.value.code == "out_of_range"
    with pytest.raises(RenderFailed, match="not_finite"):
        failed.result(PATIENCE_S)
    with pytest.raises(ArithmeticError):
        stumbled.result(PATIENCE_S)
    assert good.result(PATIENCE_S).seeds == (7,)
    assert runtime.lost is None


def test_previews_are_answered_between_steps(start: Start) -> None:
    """The caller gets the previews that exist; an error fails only the caller's future."""
    engine = Scripted()
    runtime = start(engine)
    engine.leave.clear()
    future = runtime.submit(request("a"))
    assert engine.entered.wait(PATIENCE_S)
    later = runtime.submit(request("b"))
    failing, found = runtime.previews(["blind"]), runtime.previews(["b", "nobody"])
    engine.leave.set()
    assert set(found.result(PATIENCE_S)) == {"b"}
    with pytest.raises(ArithmeticError):
        failing.result(PATIENCE_S)
    assert future.result(PATIENCE_S).id == "a"
    assert later.result(PATIENCE_S).id == "b"
    runtime.stop()
    assert runtime.previews(["a"]).result(PATIENCE_S) == {}


def test_a_forward_that_compiles_gets_more_time(start: Start) -> None:
    """Compilation takes minutes, so the watchdog's time runs slower meanwhile."""
    engine = Scripted()
    engine.leave.clear()
    runtime = start(engine)
    runtime.submit(request("a"))
    assert engine.entered.wait(PATIENCE_S)
    runtime.stepped_at -= 90.0
    assert runtime.stuck_s() >= 90.0
    engine.compiling = True
    assert 90.0 / COMPILE_FACTOR <= runtime.stuck_s() < 60.0
    engine.leave.set()
