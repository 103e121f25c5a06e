"""An engine that does what it is told, and the requests that tell it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

from workers.device.runtime import Runtime
from workers.engine.model import Preview
from workers.engine.request import (
    BadCheckpoint,
    BadRequest,
    DeviceLost,
    Drained,
    Failed,
    Finished,
    Request,
)

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

    compiling = False

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
