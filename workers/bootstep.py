"""Ties the farm's parts to the life of a Celery worker.

Started after the thread pool and before the consumer: no hint is taken before the models are loaded.
Stopped after the consumer and before the pool: what runs is given `GRACE_S` to finish, then handed
back to the queue at no cost to the jobs.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from celery import bootsteps
from sqlalchemy.exc import DBAPIError

from app.database import create_engine
from app.dispatch import workers as records
from app.jobs.store import Store
from app.storage.objects import ObjectStorage
from app.tenants import tenants
from workers.device.build import device_of, engine_of
from workers.device.runtime import Runtime
from workers.images import moderation
from workers.images.credentials import Credentials
from workers.images.revisions import Revisions
from workers.slots.lease import LeaseRenewer
from workers.slots.previews import Previewer
from workers.slots.slot import Slot

if TYPE_CHECKING:
    from app.catalog.entries import Catalog
    from app.config.settings import Settings

log = structlog.get_logger("workers")
BEAT_S = 3.0
GRACE_S = 5.0
DEVICE_LOST_EXIT = 70  # EX_SOFTWARE: the supervisor starts a fresh process


class WorkerStep(bootsteps.StartStopStep):  # type: ignore[misc,unused-ignore]
    """The engine, the leases and the heartbeat of one worker process."""

    requires = ("celery.worker.components:Pool",)

    def create(self, worker: Any) -> Any:
        """Compose the parts; nothing runs yet."""
        settings: Settings = worker.app.farm_settings
        self._engine = create_engine(settings.database_url, pool_size=min(settings.slots, 8) + 2)
        self._catalog: Catalog = worker.app.farm_catalog
        self._store = Store(self._engine)
        self._runtime = Runtime(
            engine_of(self._catalog, settings.max_rows, settings.device_memory_mb)
        )
        self._keeper = LeaseRenewer(self._store, self._runtime, settings)
        self._previewer = Previewer(self._runtime, self._keeper, settings.broker_url)
        self._worker = records.Worker(
            id=f"{platform.node()}:{os.getpid()}:{int(time.time())}",
            host=platform.node(),
            pid=os.getpid(),
            device=device_of(self._catalog),
            models=tuple(self._catalog.models),
            slots=settings.slots,
        )
        storage = ObjectStorage(settings)
        worker.app.farm_slot = Slot(
            self._store,
            storage,
            self._runtime,
            self._keeper,
            settings,
            self._worker.id,
            device=self._worker.device,
            revision=Revisions(self._catalog.models).of,
            embeds_prompt=partial(tenants.embeds_prompt, self._engine),
            credentials=Credentials.load(*settings.c2pa) if settings.c2pa else None,
            moderator=moderation.load(settings.moderation),
        )
        self._watchdog_s = settings.watchdog_s
        self._stop = threading.Event()
        return self

    def start(self, worker: Any) -> None:
        """Load the models, then say that we are here."""
        del worker
        began = time.monotonic()
        self._runtime.start()
        records.register(self._engine, self._worker)
        threading.Thread(target=self._keeper.run, args=(self._stop,), daemon=True).start()
        threading.Thread(target=self._previewer.run, args=(self._stop,), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        log.info(
            "ready",
            models=",".join(self._catalog.models),
            slots=self._worker.slots,
            load_s=round(time.monotonic() - began, 1),
        )

    def stop(self, worker: Any) -> None:
        """Let what runs finish for a moment, hand the rest back, and leave the list."""
        del worker
        self._drain()
        self._stop.set()
        try:
            records.leave(self._engine, self._worker.id)
        except DBAPIError as error:
            log.warning("cannot leave", cause=str(error.orig).strip().splitlines()[0])
        log.info("stopped")

    terminate = stop

    def _drain(self) -> None:
        until = time.monotonic() + GRACE_S
        while self._keeper.count and time.monotonic() < until:
            time.sleep(0.05)
        if self._keeper.count:
            log.info("handing back", jobs=self._keeper.count)
        self._runtime.stop()

    def _beat(self) -> None:
        """Say that we live, until told to stop; end the process if the device is lost.

        A device is stuck if it stood still from one beat to the next: a process that was frozen as a
        whole finds its clock ahead when it wakes, and its device well.
        """
        stood_at: float | None = None
        while not self._stop.wait(BEAT_S):
            stuck = self._runtime.stuck_s() > self._watchdog_s
            if stuck and stood_at == self._runtime.stepped_at:
                log.critical("device stuck", jobs=self._keeper.count)
                os._exit(DEVICE_LOST_EXIT)  # the thread can't be ended; the reaper rescues its jobs
            stood_at = self._runtime.stepped_at if stuck else None
            if self._runtime.lost:
                while self._keeper.count:
                    time.sleep(0.05)
                os._exit(DEVICE_LOST_EXIT)
            try:
                if not records.beat(self._engine, self._worker.id, self._runtime.stats()):
                    records.register(self._engine, self._worker)  # forgotten while out of reach
            except DBAPIError as error:
                log.warning("no heartbeat", cause=str(error.orig).strip().splitlines()[0])
