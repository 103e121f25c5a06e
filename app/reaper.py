"""The reaper: takes jobs back from workers that are lost, and ends those whose time is over.

Any number may run; each takes rows that no other holds.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.jobs import workers

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.jobs.store import Store
    from app.settings import Settings

log = structlog.get_logger("app.reaper")
ROUND_S = 1.0


class Reaper:
    """One round a second, in a thread of its own."""

    def __init__(self, store: Store, engine: Engine, settings: Settings) -> None:
        self._store = store
        self._engine = engine
        self._max_crashes = settings.max_crashes

    def start(self, stop: threading.Event) -> None:
        """Run rounds until told to stop."""
        threading.Thread(target=self._run, args=(stop,), name="reaper", daemon=True).start()

    def round(self) -> int:
        """Rescue and expire what is due; how many jobs were moved."""
        rescued = self._store.rescue(self._max_crashes)
        expired = self._store.expire()
        for event, ids in (("rescued", rescued), ("expired", expired)):
            if ids:
                log.info(event, jobs=len(ids), first=str(ids[0]))
        for worker in workers.forget(self._engine):
            log.info("worker forgotten", worker=worker)
        return len(rescued) + len(expired)

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(ROUND_S):
            try:
                while self.round() and not stop.is_set():
                    pass
            except SQLAlchemyError as error:
                log.warning("waiting", cause=str(error).partition("\n")[0])
