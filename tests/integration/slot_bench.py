"""A worker's slot in this process: a real database and object store, and a scripted engine."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from app.config.settings import Settings
from app.storage.objects import ObjectStorage
from tests.waiting import until
from workers.device.runtime import Runtime
from workers.engine.request import Cancelled, DeviceLost, Drained, Failed, Finished
from workers.slots.lease import LeaseRenewer
from workers.slots.slot import Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from tests.integration.records import FarmDatabase
    from workers.engine.model import Preview
    from workers.engine.request import Outcome, Request


class ScriptedEngine:
    """An engine whose jobs end when the test calls `end` with a function that makes the outcome."""

    def __init__(self) -> None:
        self.jobs: dict[str, Request] = {}
        self.cancelled: list[str] = []
        self.checkpoints: dict[str, bytes | None] = {}
        self.endings: dict[str, Callable[[Request], Outcome]] = {}
        self._changed = threading.Event()

    compiling = False

    @property
    def idle(self) -> bool:
        """Whether there is no job."""
        return not self.jobs

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Add a job. The slot must not use a name twice."""
        assert request.id not in self.jobs
        self.checkpoints[request.id] = checkpoint
        self.jobs[request.id] = request

    def cancel(self, job_id: str) -> bool:
        """Cancel a job at the next step."""
        self.cancelled.append(job_id)
        return job_id in self.jobs

    def end(self, name: str, ending: Callable[[Request], Outcome]) -> None:
        """End a job at the next step, with the outcome of `ending`, or with what it raises."""
        self.endings[name] = ending
        self._changed.set()

    def step(self) -> list[Outcome]:
        """End the jobs that the test ends, and the cancelled ones."""
        self._changed.wait(0.01)
        self._changed.clear()
        ended: list[Outcome] = [Cancelled(name) for name in set(self.cancelled) & self.jobs.keys()]
        due = self.endings.keys() & self.jobs.keys()
        ended += [self.endings.pop(name)(self.jobs[name]) for name in due]
        for outcome in ended:
            self.jobs.pop(outcome.id)
        return ended

    def drain(self) -> list[Drained]:
        """Remove all jobs, with their names as checkpoints."""
        drained, self.jobs = self.jobs, {}
        return [Drained(name, 1, name.encode()) for name in drained]

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """Return one step for each job."""
        return dict.fromkeys(self.jobs, (1, 10))

    def previews(self, job_ids: Sequence[str]) -> Mapping[str, Preview]:
        """Return no previews."""
        del job_ids
        return {}

    def summary(self) -> dict[str, Any]:
        """Return empty statistics."""
        return {}


def picture(request: Request) -> Finished:
    """End with a black picture."""
    pixels = np.zeros((request.height, request.width, 3), dtype=np.uint8)
    return Finished(request.id, [pixels], (request.seed,), 3.6, 10)


def too_large(request: Request) -> Failed:
    """End with an error: out of memory."""
    return Failed(request.id, "out_of_memory", "CUDA out of memory")


def lost(_: Request) -> Outcome:
    """Lose the device."""
    raise DeviceLost("fell off the bus")


class Bench:
    """A slot, its engine, and threads to render in."""

    def __init__(self, farm: FarmDatabase, folder: Path) -> None:
        settings = Settings.from_environment(
            {
                "RENDERFARM_DATABASE_URL": "postgresql://unused/farm",
                "RENDERFARM_BROKER_URL": "redis://unused/0",
                "RENDERFARM_DIR": str(folder),
                "RENDERFARM_USD_PER_GPU_HOUR": "10",
            }
        )
        self.objects = folder / "objects"
        self.device = ScriptedEngine()
        self.runtime = Runtime(lambda: self.device)
        self.renewer = LeaseRenewer(farm.store, self.runtime, settings)
        self.slot = Slot(
            store=farm.store,
            storage=ObjectStorage(settings),
            runtime=self.runtime,
            renewer=self.renewer,
            settings=settings,
            worker_id="w",
        )
        self.threads = ThreadPoolExecutor()
        self.runtime.start()

    def begin(self, job_id: UUID, attempt: int = 1) -> Future[str]:
        """Render in a thread; return when the engine has the attempt."""
        answer = self.threads.submit(self.slot.render, job_id)
        until(lambda: f"{job_id}.{attempt}" in self.device.jobs or answer.done())
        return answer

    def renew(self) -> None:
        """Run a round of the renewer as if the renewal were due."""
        self.renewer._renewed_at -= 1000.0
        self.renewer.round()

    def close(self) -> None:
        """End the device thread and the slot threads."""
        self.runtime.stop()
        self.threads.shutdown()
