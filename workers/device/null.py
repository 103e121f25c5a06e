"""The `null` pipeline, a fake engine: a grey picture after a fixed time, without torch.

It replaces the device in load and fault tests, which test everything around the engine: the same
thread, futures, leases and uploads.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.engine.request import Cancelled, Drained, Finished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workers.engine.model import Preview
    from workers.engine.request import Outcome, Request


class NullEngine:
    """Ends each job `delay_s` (by model) after it was added. All jobs wait concurrently."""

    def __init__(
        self, delay_s: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._delay_s = delay_s
        self._clock = clock
        self._jobs: dict[str, tuple[float, Request]] = {}
        self._cancelled: set[str] = set()
        self._done = 0

    compiling = False

    @property
    def idle(self) -> bool:
        """Whether there is no job."""
        return not self._jobs

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Queue a request. The checkpoint is ignored."""
        del checkpoint
        self._jobs[request.id] = (self._clock() + self._delay_s[request.model], request)

    def cancel(self, job_id: str) -> bool:
        """Remove a job at the next step. Return False if it is unknown."""
        if job_id in self._jobs:
            self._cancelled.add(job_id)
        return job_id in self._jobs

    def step(self) -> list[Outcome]:
        """End the jobs that are due or cancelled. Sleep 1 ms if there are none."""
        now = self._clock()
        ended: list[Outcome] = [Cancelled(job_id) for job_id in self._cancelled]
        self._cancelled.clear()
        due = [job_id for job_id, (due_at, _) in self._jobs.items() if due_at <= now]
        ended += [
            _picture(self._jobs[job_id][1]) for job_id in due if Cancelled(job_id) not in ended
        ]
        for outcome in ended:
            del self._jobs[outcome.id]
        self._done += len(ended)
        if not ended:
            time.sleep(0.001)
        return ended

    def drain(self) -> list[Drained]:
        """Remove all jobs, without checkpoints."""
        jobs, self._jobs = self._jobs, {}
        self._cancelled.clear()
        return [Drained(job_id, 0, None) for job_id in jobs]

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """Return (0, steps requested) for each job: a null job has no intermediate steps."""
        return {job_id: (0, r.num_inference_steps) for job_id, (_, r) in self._jobs.items()}

    def previews(self, job_ids: Sequence[str]) -> Mapping[str, Preview]:
        """Return no previews."""
        del job_ids
        return {}

    def summary(self) -> dict[str, Any]:
        """Return how many jobs have ended."""
        return {"done": self._done}


def _picture(request: Request) -> Finished:
    """Return grey pictures of the requested size, HxWx3 uint8."""
    pixels = np.full((request.height, request.width, 3), 128, dtype=np.uint8)
    seeds = tuple(range(request.seed, request.seed + request.num_images))
    return Finished(request.id, [pixels] * len(seeds), seeds, 0.0, request.num_inference_steps)
