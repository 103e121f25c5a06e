"""Reaper: takes jobs back from lost workers, and ends jobs whose deadline has passed.

Any number may run; each one takes rows that no other one has locked. While the database was
unavailable, no worker could renew its leases. After such a gap the reaper gives the holders time to
renew before it takes any job back.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.database import uptime_s
from app.dispatch import workers
from app.errors import first_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from app.config.settings import Settings
    from app.jobs.store import Store

log = structlog.get_logger("app.dispatch.reaper")
ROUND_S = 1.0
GAP_S = 3.0
"""A longer pause between two rounds means that the database or this process stood still."""


class Reaper:
    """Runs one round a second, in its own thread."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._engine = engine
        self._max_crashes = settings.max_crashes
        self._grace_s = min(settings.lease_s, 2 * settings.renew_s)
        self._clock = clock
        self._round_at: float | None = None
        self._available_since = 0.0

    def start(self, stop: threading.Event) -> None:
        """Start the thread. It runs rounds until `stop` is set."""
        threading.Thread(target=self._run, args=(stop,), name="reaper", daemon=True).start()

    def round(self) -> int:
        """Rescue and expire the jobs that are due. Return how many jobs were moved."""
        expired = self._store.expire()
        rescued = self._store.rescue(self._max_crashes) if self._database_settled() else []
        if rescued:
            log.info("jobs_rescued", jobs=len(rescued), first=str(rescued[0]))
        if expired:
            log.info("jobs_expired", jobs=len(expired), first=str(expired[0]))
        for worker in workers.forget(self._engine):
            log.info("worker_removed", worker=worker)
        return len(rescued) + len(expired)

    def _database_settled(self) -> bool:
        """Whether the database has been available long enough for every holder to renew."""
        now = self._clock()
        if self._round_at is None:
            self._available_since = now - uptime_s(self._engine)
        elif now - self._round_at > GAP_S:
            self._available_since = now
            log.warning("renewal_gap_detected", seconds=round(now - self._round_at, 1))
        self._round_at = now
        return now - self._available_since >= self._grace_s

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(ROUND_S):
            try:
                while self.round() and not stop.is_set():
                    pass
            except SQLAlchemyError as error:
                log.warning("database_unavailable", cause=first_line(error))
            except Exception:  # without this thread no lost job would ever come back
                log.exception("unexpected_error")
