"""Leases: what this worker holds, renewed in one statement, only while the device moves.

Losing a job is quiet: the renewer learns that a job is no longer ours (cancelled, expired, rescued)
from the renewal's answer and takes it out of the engine; its slot finds out when it tries to finish.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.jobs.records import attempt_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from app.config.settings import Settings
    from app.jobs.records import Claim
    from app.jobs.store import Store
    from workers.device.runtime import Runtime

log = structlog.get_logger("workers.slots.lease")
PROGRESS_S = 0.5


class LeaseRenewer:
    """Renews the leases of all held jobs every `renew_s`, and sooner when their steps moved."""

    def __init__(self, store: Store, runtime: Runtime, settings: Settings) -> None:
        self._store = store
        self._runtime = runtime
        self._lease_s = settings.lease_s
        self._renew_s = settings.renew_s
        self._watchdog_s = settings.watchdog_s
        self._held: dict[tuple[UUID, int], int] = {}
        self._lock = threading.Lock()
        self._renewed_at = time.monotonic()

    @contextlib.contextmanager
    def hold(self, claim: Claim) -> Iterator[None]:
        """Keep the claim's lease while inside."""
        with self._lock:
            self._held[claim.id, claim.attempt] = 0
        try:
            yield
        finally:
            with self._lock:
                self._held.pop((claim.id, claim.attempt), None)

    @property
    def count(self) -> int:
        """How many jobs are held."""
        return len(self._held)

    @property
    def attempts(self) -> list[tuple[UUID, int]]:
        """The jobs that are held, with their attempts."""
        with self._lock:
            return list(self._held)

    def run(self, stop: threading.Event) -> None:
        """Renew until told to stop."""
        while not stop.wait(min(PROGRESS_S, self._renew_s)):
            try:
                self.round()
            except SQLAlchemyError as error:
                log.warning("cannot renew", cause=str(error).strip().splitlines()[0])

    def round(self) -> None:
        """Renew what is held, if it is time or something moved; let go of what is no longer ours."""
        if self._runtime.lost:
            return  # the slots end their leases
        with self._lock:
            before = dict(self._held)
        now = {key: self._runtime.progress_of(attempt_name(*key)) for key in before}
        due = time.monotonic() - self._renewed_at >= self._renew_s
        if not now or not (due or now != before):
            return
        if self._runtime.stuck_s() > self._watchdog_s:
            log.error("device stuck", jobs=len(now), seconds=round(self._runtime.stuck_s(), 1))
            return
        held = self._store.renew(now, self._lease_s)
        self._renewed_at = time.monotonic()
        with self._lock:
            self._held.update({key: step for key, step in now.items() if key in self._held})
        for key in now.keys() - held:
            self._runtime.cancel(attempt_name(*key))
