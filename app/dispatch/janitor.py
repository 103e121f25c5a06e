"""Janitor: adds up usage and deletes expired data (retention, garbage collection).

Jobs and images are deleted when their tenant's retention time is over. Objects that no database row
names are deleted: those of unfinished attempts, and those whose deletion failed. Uploads are
deleted when requests may no longer name them and no open job needs them. Rows are deleted first and
objects after them, so that no job shows an image that does not exist. Any number of janitors may
run.
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
from app.errors import first_line
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
MIN_AGE_S = 3600.0
"""Objects younger than this are skipped: their job may not be committed yet."""
ENTRIES = 10_000
MANY = 500
SWEEP_LOCK = 7_236_004
_NAMED = text("SELECT DISTINCT key FROM images WHERE key = ANY(:keys)")
# A running attempt has written objects that no row names yet. A drained attempt has left a
# checkpoint for the next one.
_OPEN = text("""SELECT id, attempt, status, checkpoint FROM jobs
                WHERE id = ANY(:ids) AND status IN ('queued', 'running')""")
# The uploads that open jobs name, by their keys in the store.
_NEEDED = text("""SELECT DISTINCT jobs.tenant_id || '/' || named.upload
                  FROM jobs CROSS JOIN LATERAL (VALUES (request->>'image'), (request->>'mask'),
                                                       (request->>'control_image')) AS named(upload)
                  WHERE status IN ('queued', 'running') AND named.upload LIKE 'uploads/%'""")


class Janitor:
    """Runs one round every few seconds, in its own thread."""

    def __init__(
        self,
        *,
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
        """Start the thread. It runs rounds until `stop` is set."""
        threading.Thread(target=self._run, args=(stop,), name="janitor", daemon=True).start()

    def round(self) -> bool:
        """Do a bounded part of all work that is due. Return whether there may be more."""
        added = usage.add_up(self._engine, ENTRIES)
        keys = self._store.age_images(MANY)
        jobs, more = self._store.age_jobs(MANY)
        gone = self._delete([*keys, *more])
        if gone:
            log.info("images_expired", jobs=jobs, objects=gone)
        if self._clock() >= self._sweep_at:
            self._sweep_at = self._clock() + self._sweep_s
            self.sweep()
        return added == ENTRIES or jobs == MANY or len(keys) >= MANY

    def sweep(self) -> int:
        """Delete the objects that no row names and no job needs. Return how many.

        One sweep runs at a time.
        """
        swept = 0
        with autocommit(self._engine).connect() as connection:
            lock = {"lock": SWEEP_LOCK}
            if not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), lock):
                return 0
            try:
                # No accepted job can name an upload this old, so no new job needs one now.
                before = time.time() - self._keep_uploads_s - MIN_AGE_S
                needed = set(connection.execute(_NEEDED).scalars())
                for keys in self._storage.old_keys(MIN_AGE_S):
                    stale = _expired_uploads(before, keys)
                    swept += self._delete([*self._orphans(keys), *(stale - needed)])
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), lock)
        log.info("orphans_deleted", objects=swept)
        return swept

    def _delete(self, keys: Sequence[str]) -> int:
        """Delete the objects that no row names; several jobs may share an object."""
        if not keys:
            return 0
        with autocommit(self._engine).connect() as connection:
            named = set(connection.execute(_NAMED, {"keys": list(keys)}).scalars())
        gone = sorted(set(keys) - named)
        try:
            self._storage.delete(gone)
        except StorageError as error:
            log.warning(
                "deletion_failed", objects=len(gone), cause=str(error)
            )  # the next sweep finds them
            return 0
        return len(gone)

    def _orphans(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that no open job will read or write. Keys of an unknown form stay."""
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
                log.warning("dependency_unavailable", cause=first_line(error))
            except Exception:  # the next round may succeed
                log.exception("unexpected_error")


def _expired_uploads(before: float, keys: Sequence[str]) -> set[str]:
    """Return the keys of uploads that were created before this Unix second."""
    names = {key: name for key in keys if (name := uploads.name_of(key))}
    return {key for key, name in names.items() if uploads.made_at(name) < before}


def _attempt_of(key: str) -> tuple[UUID, int] | None:
    """Return job and attempt of a key `{tenant}/{job}/{attempt}/{n}.{ext}`; None for other keys."""
    parts = key.split("/")
    try:
        _, job_id, attempt, _ = parts
        return UUID(job_id), int(attempt)
    except ValueError:
        return None
