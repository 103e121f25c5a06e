"""The device thread and its futures."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

from workers.engine.preview import Preview
from workers.engine.request import (
    BadCheckpoint,
    BadRequest,
    DeviceLost,
    Drained,
    Failed,
    Finished,
    Request,
)
from workers.models import Mixed
from workers.null import NullEngine
from workers.runtime import RenderCancelled, RenderDrained, RenderFailed, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from workers.engine.request import Outcome

PATIENCE_S = 30.0  # only a test that fails waits this long
NEVER_S = 1e9


def request(name: str, model: str = "quick", **changes: Any) -> Request:
    """A request for a small picture."""
    fields: dict[str, Any] = {
        "prompt": "a", "width": 16, "height": 8, "num_inference_steps": 4, "guidance_scale": 5.0,
        "seed": 7, **changes,
    }  # fmt: skip
    return Request(id=name, model=model, **fields)


class Scripted:
    """An engine that does with each request what its prompt names."""

    def __init__(self) -> None:
        self.here: list[Request] = []
        self.checkpoints: dict[str, bytes | None] = {}
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.leave.set()

    @property
    def idle(self) -> bool:
        """Whether nothing is here."""
        return not self.here

    def add(self, asked: Request, checkpoint: bytes | None = None) -> None:
        """Take it, or refuse it."""
        if checkpoint == b"broken":
            raise BadCheckpoint("broken")
        self.checkpoints[asked.id] = checkpoint
        if asked.prompt == "refuse":
            raise BadRequest("out_of_range", "width", "too wide")
        if asked.prompt == "stumble":
            raise ArithmeticError("stumbled")
        self.here.append(asked)

    def cancel(self, job_id: str) -> bool:
        """Nobody leaves early."""
        return bool(job_id)

    def step(self) -> list[Outcome]:
        """End everybody."""
        self.entered.set()
        assert self.leave.wait(PATIENCE_S)
        prompts = {asked.prompt for asked in self.here}
        if "lose" in prompts:
            raise DeviceLost("the device fell off the bus")
        if "break" in prompts:
            raise ZeroDivisionError("a bug")
        ended, self.here = self.here, []
        return [
            Failed(asked.id, "not_finite", "black")
            if asked.prompt == "fail"
            else Finished(asked.id, [], (asked.seed,), 0.5, 4)
            for asked in ended
        ]

    def drain(self) -> list[Drained]:
        """Let everybody go, one step on."""
        left, self.here = self.here, []
        return [Drained(asked.id, 1, asked.id.encode()) for asked in left]

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """One step of each."""
        return {asked.id: (1, 4) for asked in self.here}

    def previews(self, job_ids: Sequence[str]) -> Mapping[str, Preview]:
        """A preview of each that is here; no other can be seen."""
        if "blind" in job_ids:
            raise ArithmeticError("blind")
        here = {asked.id for asked in self.here}
        grey = np.zeros((2, 2, 3), np.uint8)
        return {name: Preview(1, grey) for name in job_ids if name in here}

    def summary(self) -> dict[str, Any]:
        """Nothing to tell."""
        return {"steps": 1}


@pytest.fixture
def start() -> Iterator[Callable[[Any], Runtime]]:
    """Runs an engine; stops what was run."""
    running: list[Runtime] = []

    def run(engine: Any) -> Runtime:
        running.append(Runtime(lambda: engine))
        running[-1].start()
        return running[-1]

    yield run
    for runtime in running:
        runtime.stop()


Start: TypeAlias = "Callable[[Any], Runtime]"


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


def test_many_threads_get_their_own_results(start: Start) -> None:
    """Each future ends with the outcome of its own request."""
    runtime = start(NullEngine({"quick": 0.0}))
    futures = {seed: runtime.submit(request(f"job {seed}", seed=seed)) for seed in range(200)}
    assert all(f.result(PATIENCE_S).seeds == (seed,) for seed, f in futures.items())


def test_cancelling_ends_the_future(start: Start) -> None:
    """A job that is asked to leave raises RenderCancelled where it is waited for."""
    runtime = start(NullEngine({"quick": NEVER_S}))
    stays, leaves = runtime.submit(request("a")), runtime.submit(request("b"))
    runtime.cancel("b")
    runtime.cancel("nobody")
    with pytest.raises(RenderCancelled):
        leaves.result(PATIENCE_S)
    assert not stays.done()


def test_a_requests_fault_ends_that_request_alone(start: Start) -> None:
    """Refused, failed, or even a bug in taking it: the others go on."""
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


@pytest.mark.parametrize("how", ["lose", "break"])
def test_a_lost_device_ends_every_future_and_takes_nothing_more(start: Start, how: str) -> None:
    """Who waits, who waits to be taken, and who comes later: all hear DeviceLost; none hangs."""
    engine = Scripted()
    engine.leave.clear()
    runtime = start(engine)
    under_way = runtime.submit(request("a", prompt=how))
    assert engine.entered.wait(PATIENCE_S)
    in_the_inbox = runtime.submit(request("b"))
    engine.leave.set()
    for future in (under_way, in_the_inbox):
        with pytest.raises(DeviceLost):
            future.result(PATIENCE_S)
    with pytest.raises(DeviceLost):
        runtime.submit(request("c")).result(PATIENCE_S)
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


def test_two_engines_serve_their_own_models(start: Start) -> None:
    """A worker of several kinds of models gives each request to its engine and loses none."""
    quick, never = NullEngine({"quick": 0.0}), NullEngine({"never": NEVER_S})
    runtime = start(Mixed([quick, never], {"quick": quick, "never": never}))
    waits = runtime.submit(request("a", "never"))
    assert runtime.submit(request("b", "quick")).result(PATIENCE_S).id == "b"
    runtime.cancel("a")
    with pytest.raises(RenderCancelled):
        waits.result(PATIENCE_S)


def test_previews_are_answered_between_steps_and_cost_no_job_anything(start: Start) -> None:
    """Who asks gets what is here; an error in the asking reaches nobody else."""
    engine = Scripted()
    runtime = start(engine)
    engine.leave.clear()
    future = runtime.submit(request("a"))
    assert engine.entered.wait(PATIENCE_S)
    later = runtime.submit(request("b"))
    blind, seen = runtime.previews(["blind"]), runtime.previews(["b", "nobody"])
    engine.leave.set()
    assert set(seen.result(PATIENCE_S)) == {"b"}
    with pytest.raises(ArithmeticError):
        blind.result(PATIENCE_S)
    assert future.result(PATIENCE_S).id == "a"
    assert later.result(PATIENCE_S).id == "b"
    runtime.stop()
    assert runtime.previews(["a"]).result(PATIENCE_S) == {}
