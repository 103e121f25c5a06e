"""Draining: one worker's runtime starts a job of the shipped model, another one finishes it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from app.config.repository import REPOSITORY
from workers.device.runtime import Runtime
from workers.engine.engine import Engine
from workers.engine.request import Request
from workers.errors import RenderDrained
from workers.pipelines.loading import load

if TYPE_CHECKING:
    from concurrent.futures import Future

    from workers.engine.request import Finished

PATIENCE_S = 120.0
REQUEST = Request(
    id="a",
    model="scenes",
    prompt="a red circle on a blue background",
    width=64,
    height=64,
    num_inference_steps=12,
    guidance_scale=4.0,
    seed=7,
    scheduler="euler_a",
    reproducible=True,
)


class PausingEngine(Engine):
    """An engine that makes no more steps once its job has made `after` of them."""

    def __init__(self, after: int) -> None:
        super().__init__({"scenes": load(REPOSITORY / "models" / "scenes", name="scenes")})
        self._after = after
        self.paused = threading.Event()

    @property
    def idle(self) -> bool:
        """Also idle when the job has made its steps, so the device thread waits for a message."""
        if any(step < self._after for step, _ in self.progress().values()):
            return super().idle
        if self.progress():
            self.paused.set()
        return True


def started(engine: Engine) -> tuple[Runtime, Future[Finished]]:
    """Start a runtime that renders the request."""
    runtime = Runtime(lambda: engine)
    runtime.start()
    return runtime, runtime.submit(REQUEST)


def test_a_drained_job_ends_with_the_undisturbed_jobs_bytes() -> None:
    """A job that is drained at 5 of 12 steps makes 7 more elsewhere and gives the same pixels."""
    runtime, future = started(PausingEngine(99))
    undisturbed = future.result(PATIENCE_S).pixels[0]
    runtime.stop()

    engine = PausingEngine(5)
    runtime, future = started(engine)
    assert engine.paused.wait(PATIENCE_S)
    runtime.stop()
    with pytest.raises(RenderDrained) as caught:
        future.result(PATIENCE_S)

    other = Runtime(lambda: PausingEngine(99))
    other.start()
    resumed = other.submit(REQUEST, caught.value.checkpoint).result(PATIENCE_S).pixels[0]
    assert other.stats()["forwards"]["denoiser"] == 12 - 5
    other.stop()
    assert np.array_equal(resumed, undisturbed)
