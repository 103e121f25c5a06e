"""The janitor: adds up what was used, and clears away what nobody keeps any more.

Jobs and images age out as their tenant has it. Objects that no record names are collected: those of
attempts that did not finish, and those whose deletion failed. So are uploads that may be named no
more, once no open job needs them. Records go first and objects after them, so that no job ever
shows a picture that is gone. Any number may run.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.database import autocommit
from app.storage import uploads
from app.storage.objects import StorageError
from app.tenants import usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from app.config.settings import Settings
    from app.jobs.store import Store
    from app.storage.objects import ObjectStorage

log = structlog.get_logger("app.dispatch.janitor")
ROUND_S = 5.0
FIRST_SWEEP_S = 600.0
SPARED_S = 3600.0
"""Objects younger than this are not looked at: their job may still be on its way."""
ENTRIES = 10_000
MANY = 500
SWEEPERS_LOCK = 7_236_004
_NAMED = text("SELECT DISTINCT key FROM images WHERE key = ANY(:keys)")
# An attempt that runs has written objects that nothing names yet; one that was drained has left a
# checkpoint for the next.
_OPEN = text("""SELECT id, attempt, status, checkpoint FROM jobs
                WHERE id = ANY(:ids) AND status IN ('queued', 'running')""")
# Which uploads the open jobs name, by their keys in the store.
_NEEDED = text("""SELECT DISTINCT jobs.tenant_id || '/' || named.upload
                  FROM jobs CROSS JOIN LATERAL (VALUES (request->>'image'), (request->>'mask'),
                                                       (request->>'control_image')) AS named(upload)
                  WHERE status IN ('queued', 'running') AND named.upload LIKE 'uploads/%'""")


class Janitor:
    """One round every few seconds, in a thread of its own."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        storage: ObjectStorage,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._engine = engine
        self._storage = storage
        self._sweep_s = settings.sweep_s
        self._keep_uploads_s = settings.keep_uploads_s
        self._clock = clock
        self._sweep_at = clock() + min(FIRST_SWEEP_S, settings.sweep_s)

    def start(self, stop: threading.Event) -> None:
        """Run rounds until told to stop."""
        threading.Thread(target=self._run, args=(stop,), name="janitor", daemon=True).start()

    def round(self) -> bool:
        """Do a bounded part of everything that is due; whether there may be more of it."""
        added = usage.add_up(self._engine, ENTRIES)
        keys = self._store.age_images(MANY)
        jobs, more = self._store.age_jobs(MANY)
        gone = self._delete([*keys, *more])
        if gone:
            log.info("aged", jobs=jobs, objects=gone)
        if self._clock() >= self._sweep_at:
            self._sweep_at = self._clock() + self._sweep_s
            self.sweep()
        return added == ENTRIES or jobs == MANY or len(keys) >= MANY

    def sweep(self) -> int:
        """Collect the objects that no record names or needs; how many. One at a time in a farm."""
        swept = 0
        with autocommit(self._engine).connect() as connection:
            lock = {"lock": SWEEPERS_LOCK}
            if not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), lock):
                return 0
            try:
                # No job is accepted that names an upload this old, so none comes to need one now.
                before = time.time() - self._keep_uploads_s - SPARED_S
                needed = set(connection.execute(_NEEDED).scalars())
                for keys in self._storage.old_keys(SPARED_S):
                    stale = _uploads_from_before(before, keys)
                    swept += self._delete([*self._orphans(keys), *(stale - needed)])
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), lock)
        log.info("swept", objects=swept)
        return swept

    def _delete(self, keys: Sequence[str]) -> int:
        """Delete the objects that no record names; jobs may share them."""
        if not keys:
            return 0
        with autocommit(self._engine).connect() as connection:
            named = set(connection.execute(_NAMED, {"keys": list(keys)}).scalars())
        gone = sorted(set(keys) - named)
        try:
            self._storage.delete(gone)
        except StorageError as error:
            log.warning("not deleted", objects=len(gone), cause=str(error))  # a sweep finds them
            return 0
        return len(gone)

    def _orphans(self, keys: Sequence[str]) -> list[str]:
        """Those keys that no open job is to read or write. What is not named like ours stays."""
        attempts = {key: attempt for key in keys if (attempt := _attempt_of(key))}
        ids = [job_id for job_id, _ in attempts.values()]
        with autocommit(self._engine).connect() as connection:
            open_jobs = connection.execute(_OPEN, {"ids": ids}).all()
        running = {(row.id, row.attempt) for row in open_jobs if row.status == "running"}
        left = {row.checkpoint for row in open_jobs}
        return [
            key for key, attempt in attempts.items() if attempt not in running and key not in left
        ]

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(ROUND_S):
            try:
                while self.round() and not stop.is_set():
                    pass
            except (SQLAlchemyError, StorageError) as error:
                log.warning("waiting", cause=str(error).partition("\n")[0])
            except Exception:  # the next round may well do
                log.exception("bug")


def _uploads_from_before(before: float, keys: Sequence[str]) -> set[str]:
    """Those keys that hold uploads whose places were made before that Unix second."""
    names = {key: name for key in keys if (name := uploads.name_of(key))}
    return {key for key, name in names.items() if uploads.made_at(name) < before}


def _attempt_of(key: str) -> tuple[UUID, int] | None:
    """The job and attempt of an object's key `{tenant}/{job}/{attempt}/{n}.{ext}`, or none."""
    parts = key.split("/")
    try:
        _, job_id, attempt, _ = parts
        return UUID(job_id), int(attempt)
    except ValueError:
        return None
