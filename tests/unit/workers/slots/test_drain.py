"""The shipped model, drained by one worker's runtime and finished by another's."""

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
ASKED = Request(
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


class Stops(Engine):
    """An engine that tells when a job has made so many steps."""

    def __init__(self, after: int) -> None:
        super().__init__({"scenes": load(REPOSITORY / "models" / "scenes", name="scenes")})
        self._after = after
        self.far_enough = threading.Event()

    @property
    def idle(self) -> bool:
        """Idle also when the job has gone far enough, so that the thread waits to be stopped."""
        if any(step < self._after for step, _ in self.progress().values()):
            return super().idle
        if self.progress():
            self.far_enough.set()
        return True


def started(engine: Engine) -> tuple[Runtime, Future[Finished]]:
    """A runtime that renders."""
    runtime = Runtime(lambda: engine)
    runtime.start()
    return runtime, runtime.submit(ASKED)


def test_a_drained_job_ends_with_the_undisturbed_jobs_bytes() -> None:
    """Stopped at 5 of 12 steps and resumed elsewhere: same pixels, and only 7 steps to do."""
    runtime, future = started(Stops(99))
    undisturbed = future.result(PATIENCE_S).pixels[0]
    runtime.stop()

    engine = Stops(5)
    runtime, future = started(engine)
    assert engine.far_enough.wait(PATIENCE_S)
    runtime.stop()
    with pytest.raises(RenderDrained) as left:
        future.result(PATIENCE_S)

    other = Runtime(lambda: Stops(99))
    other.start()
    resumed = other.submit(ASKED, left.value.checkpoint).result(PATIENCE_S).pixels[0]
    assert other.stats()["forwards"]["denoiser"] == 12 - 5
    other.stop()
    assert np.array_equal(resumed, undisturbed)
