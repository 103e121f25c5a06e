"""The reaper: takes jobs back from workers that are lost, and ends those whose time is over.

Any number may run; each takes rows that no other holds. While the records were out of reach nobody
could renew a lease, so after such a gap the holders are given time to do so before any is taken back.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.database import uptime_s
from app.dispatch import workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from app.config.settings import Settings
    from app.jobs.store import Store

log = structlog.get_logger("app.dispatch.reaper")
ROUND_S = 1.0
GAP_S = 3.0
"""Between two rounds: the records, or this process, stood still meanwhile."""


class Reaper:
    """One round a second, in a thread of its own."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._engine = engine
        self._max_crashes = settings.max_crashes
        self._patience_s = min(settings.lease_s, 2 * settings.renew_s)
        self._clock = clock
        self._round_at: float | None = None
        self._in_reach_since = 0.0

    def start(self, stop: threading.Event) -> None:
        """Run rounds until told to stop."""
        threading.Thread(target=self._run, args=(stop,), name="reaper", daemon=True).start()

    def round(self) -> int:
        """Rescue and expire what is due; how many jobs were moved."""
        expired = self._store.expire()
        rescued = self._store.rescue(self._max_crashes) if self._in_reach() else []
        for event, ids in (("rescued", rescued), ("expired", expired)):
            if ids:
                log.info(event, jobs=len(ids), first=str(ids[0]))
        for worker in workers.forget(self._engine):
            log.info("worker forgotten", worker=worker)
        return len(rescued) + len(expired)

    def _in_reach(self) -> bool:
        """Whether the records have been in reach for long enough that every holder has renewed."""
        now = self._clock()
        if self._round_at is None:
            self._in_reach_since = now - uptime_s(self._engine)
        elif now - self._round_at > GAP_S:
            self._in_reach_since = now
            log.warning("gap", seconds=round(now - self._round_at, 1))
        self._round_at = now
        return now - self._in_reach_since >= self._patience_s

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(ROUND_S):
            try:
                while self.round() and not stop.is_set():
                    pass
            except SQLAlchemyError as error:
                log.warning("waiting", cause=str(error).partition("\n")[0])
            except Exception:  # without this thread no job would ever come back
                log.exception("bug")
