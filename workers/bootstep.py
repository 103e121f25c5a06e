"""Bootstep: composes the worker's parts and ties them to the life of the Celery worker.

It starts after the thread pool and before the consumer, so no hint is received before the models
are loaded. It stops after the consumer and before the pool: running jobs get `GRACE_S` to finish;
the others return to the queue at no cost.
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
from app.dispatch import workers as registry
from app.errors import first_line
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
HEARTBEAT_S = 3.0
GRACE_S = 5.0
DEVICE_LOST_EXIT = 70  # EX_SOFTWARE: the supervisor starts a new process


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
        self._renewer = LeaseRenewer(self._store, self._runtime, settings)
        self._previewer = Previewer(self._runtime, self._renewer, settings.broker_url)
        self._worker = registry.Worker(
            id=f"{platform.node()}:{os.getpid()}:{int(time.time())}",
            host=platform.node(),
            pid=os.getpid(),
            device=device_of(self._catalog),
            models=tuple(self._catalog.models),
            slots=settings.slots,
        )
        worker.app.farm_slot = Slot(
            store=self._store,
            storage=ObjectStorage(settings),
            runtime=self._runtime,
            renewer=self._renewer,
            settings=settings,
            worker_id=self._worker.id,
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
        """Load the models, then register the worker and start its threads."""
        del worker
        started = time.monotonic()
        self._runtime.start()
        registry.register(self._engine, self._worker)
        threading.Thread(target=self._renewer.run, args=(self._stop,), daemon=True).start()
        threading.Thread(target=self._previewer.run, args=(self._stop,), daemon=True).start()
        threading.Thread(target=self._run_heartbeat, daemon=True).start()
        log.info(
            "worker_ready",
            models=",".join(self._catalog.models),
            slots=self._worker.slots,
            load_s=round(time.monotonic() - started, 1),
        )

    def stop(self, worker: Any) -> None:
        """Give running jobs `GRACE_S` to finish, release the others, and leave the registry."""
        del worker
        self._drain()
        self._stop.set()
        try:
            registry.leave(self._engine, self._worker.id)
        except DBAPIError as error:
            log.warning("unregister_failed", cause=first_line(error.orig))
        log.info("worker_stopped")

    terminate = stop

    def _drain(self) -> None:
        grace_ends_at = time.monotonic() + GRACE_S
        while self._renewer.count and time.monotonic() < grace_ends_at:
            time.sleep(0.05)
        if self._renewer.count:
            log.info("worker_draining", jobs=self._renewer.count)
        self._runtime.stop()

    def _run_heartbeat(self) -> None:
        """Send heartbeats until the worker stops; end the process if the device is lost.

        The device counts as stuck only if it made no step between two heartbeats. After the whole
        process was frozen, the first look finds the clock far ahead although the device works.
        """
        stuck_since: float | None = None
        while not self._stop.wait(HEARTBEAT_S):
            stuck = self._runtime.stuck_s() > self._watchdog_s
            if stuck and stuck_since == self._runtime.stepped_at:
                log.critical("device_stuck", jobs=self._renewer.count)
                os._exit(DEVICE_LOST_EXIT)  # no thread can end a stuck one; the reaper rescues jobs
            stuck_since = self._runtime.stepped_at if stuck else None
            if self._runtime.lost:
                while self._renewer.count:
                    time.sleep(0.05)
                os._exit(DEVICE_LOST_EXIT)
            try:
                if not registry.beat(self._engine, self._worker.id, self._runtime.stats()):
                    registry.register(self._engine, self._worker)  # removed while unreachable
            except DBAPIError as error:
                log.warning("heartbeat_failed", cause=first_line(error.orig))
