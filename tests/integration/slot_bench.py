"""A slot of a worker in this process: real records and a real store around a scripted device."""

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
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from uuid import UUID

    from tests.integration.records import FarmDatabase
    from workers.engine.request import Outcome, Request


class Device:
    """An engine whose jobs end when the test says so: `ending` makes an outcome, or raises."""

    def __init__(self) -> None:
        self.here: dict[str, Request] = {}
        self.cancelled: list[str] = []
        self.checkpoints: dict[str, bytes | None] = {}
        self.endings: dict[str, Callable[[Request], Outcome]] = {}
        self._changed = threading.Event()

    compiling = False

    @property
    def idle(self) -> bool:
        """Whether nothing is here."""
        return not self.here

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Take it. The same name twice would be a mistake of the slot."""
        assert request.id not in self.here
        self.checkpoints[request.id] = checkpoint
        self.here[request.id] = request

    def cancel(self, job_id: str) -> bool:
        """Have it leave."""
        self.cancelled.append(job_id)
        return job_id in self.here

    def end(self, name: str, how: Callable[[Request], Outcome]) -> None:
        """Let a job end, at the next step."""
        self.endings[name] = how
        self._changed.set()

    def step(self) -> list[Outcome]:
        """End whom the test ends, and who was asked to leave."""
        self._changed.wait(0.01)
        self._changed.clear()
        ended: list[Outcome] = [Cancelled(name) for name in set(self.cancelled) & self.here.keys()]
        due = self.endings.keys() & self.here.keys()
        ended += [self.endings.pop(name)(self.here[name]) for name in due]
        for outcome in ended:
            self.here.pop(outcome.id)
        return ended

    def drain(self) -> list[Drained]:
        """Let everybody go with a checkpoint that says who made it."""
        left, self.here = self.here, {}
        return [Drained(name, 1, name.encode()) for name in left]

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """One step of each."""
        return dict.fromkeys(self.here, (1, 10))

    def summary(self) -> dict[str, Any]:
        """Nothing to tell."""
        return {}


def picture(request: Request) -> Finished:
    """A black picture."""
    pixels = np.zeros((request.height, request.width, 3), dtype=np.uint8)
    return Finished(request.id, [pixels], (request.seed,), 3.6, 10)


def too_large(request: Request) -> Failed:
    """There is no memory for it."""
    return Failed(request.id, "out_of_memory", "CUDA out of memory")


def lost(_: Request) -> Outcome:
    """The device is gone."""
    raise DeviceLost("fell off the bus")


class Bench:
    """A slot, its device, and threads to render in."""

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
        self.device = Device()
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
        """Render in a thread; returns once the device has the attempt."""
        answer = self.threads.submit(self.slot.render, job_id)
        until(lambda: f"{job_id}.{attempt}" in self.device.here or answer.done())
        return answer

    def renew(self) -> None:
        """One round of the renewer, as if it were time."""
        self.renewer._renewed_at -= 1000.0
        self.renewer.round()

    def close(self) -> None:
        """End the device thread and the slots'."""
        self.runtime.stop()
        self.threads.shutdown()
