"""A scripted engine: it does with each request what the request's prompt names."""

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
    """Build a request for a small picture."""
    fields: dict[str, Any] = {
        "prompt": "a", "width": 16, "height": 8, "num_inference_steps": 4, "guidance_scale": 5.0,
        "seed": 7, **changes,
    }  # fmt: skip
    return Request(id=name, model=model, **fields)


class Scripted:
    """An engine that obeys the prompts `refuse`, `stumble`, `lose`, `break` and `fail`."""

    def __init__(self) -> None:
        self.jobs: list[Request] = []
        self.checkpoints: dict[str, bytes | None] = {}
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.leave.set()

    compiling = False

    @property
    def idle(self) -> bool:
        """Whether there is no job."""
        return not self.jobs

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Add a request, or raise what its prompt names."""
        if checkpoint == b"broken":
            raise BadCheckpoint("broken")
        self.checkpoints[request.id] = checkpoint
        if request.prompt == "refuse":
            raise BadRequest("out_of_range", "width", "too wide")
        if request.prompt == "stumble":
            raise ArithmeticError("stumbled")
        self.jobs.append(request)

    def cancel(self, job_id: str) -> bool:
        """Cancel nothing."""
        return bool(job_id)

    def step(self) -> list[Outcome]:
        """Wait for `leave`, then end all jobs."""
        self.entered.set()
        assert self.leave.wait(PATIENCE_S)
        prompts = {asked.prompt for asked in self.jobs}
        if "lose" in prompts:
            raise DeviceLost("the device fell off the bus")
        if "break" in prompts:
            raise ZeroDivisionError("a bug")
        ended, self.jobs = self.jobs, []
        return [
            Failed(asked.id, "not_finite", "black")
            if asked.prompt == "fail"
            else Finished(asked.id, [], (asked.seed,), 0.5, 4)
            for asked in ended
        ]

    def drain(self) -> list[Drained]:
        """Remove all jobs after one step, with their ids as checkpoints."""
        drained, self.jobs = self.jobs, []
        return [Drained(asked.id, 1, asked.id.encode()) for asked in drained]

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """Return one step for each job."""
        return {asked.id: (1, 4) for asked in self.jobs}

    def previews(self, job_ids: Sequence[str]) -> Mapping[str, Preview]:
        """Return a preview of each named job that is in the engine."""
        if "blind" in job_ids:
            raise ArithmeticError("blind")
        names = {asked.id for asked in self.jobs}
        grey = np.zeros((2, 2, 3), np.uint8)
        return {name: Preview(1, grey) for name in job_ids if name in names}

    def summary(self) -> dict[str, Any]:
        """Return fixed statistics."""
        return {"steps": 1}


@pytest.fixture
def start() -> Iterator[Callable[[Any], Runtime]]:
    """Start engines in runtimes; stop them after the test."""
    running: list[Runtime] = []

    def run(engine: Any) -> Runtime:
        running.append(Runtime(lambda: engine))
        running[-1].start()
        return running[-1]

    yield run
    for runtime in running:
        runtime.stop()


Start: TypeAlias = "Callable[[Any], Runtime]"
