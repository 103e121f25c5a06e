"""Leases: the heartbeat of running jobs, renewed in one statement while the device makes progress.

A job can be lost without an error. The answer to a renewal shows which jobs this worker no longer
holds (cancelled, expired, rescued); the renewer removes them from the engine. The job's slot learns
it when it tries to finish.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import first_line
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
    """Renews the leases of all held jobs every `renew_s`, and earlier when a job made a step."""

    def __init__(self, store: Store, runtime: Runtime, settings: Settings) -> None:
        self._store = store
        self._runtime = runtime
        self._lease_s = settings.lease_s
        self._renew_s = settings.renew_s
        self._watchdog_s = settings.watchdog_s
        self._steps: dict[tuple[UUID, int], int] = {}
        self._lock = threading.Lock()
        self._renewed_at = time.monotonic()

    @contextlib.contextmanager
    def hold(self, claim: Claim) -> Iterator[None]:
        """Renew the claim's lease while the block runs."""
        with self._lock:
            self._steps[claim.id, claim.attempt] = 0
        try:
            yield
        finally:
            with self._lock:
                self._steps.pop((claim.id, claim.attempt), None)

    @property
    def count(self) -> int:
        """How many jobs this worker holds."""
        return len(self._steps)

    @property
    def attempts(self) -> list[tuple[UUID, int]]:
        """The jobs that this worker holds, each with its attempt."""
        with self._lock:
            return list(self._steps)

    def run(self, stop: threading.Event) -> None:
        """Run rounds until `stop` is set."""
        while not stop.wait(min(PROGRESS_S, self._renew_s)):
            try:
                self.round()
            except SQLAlchemyError as error:
                log.warning("renewal_failed", cause=first_line(error))

    def round(self) -> None:
        """Renew the leases if it is time or a job made a step; cancel the jobs that were lost."""
        if self._runtime.lost:
            return  # the slots end their leases
        with self._lock:
            before = dict(self._steps)
        now = {key: self._runtime.progress_of(attempt_name(*key)) for key in before}
        due = time.monotonic() - self._renewed_at >= self._renew_s
        if not now or not (due or now != before):
            return
        if self._runtime.stuck_s() > self._watchdog_s:
            log.error("device_stuck", jobs=len(now), seconds=round(self._runtime.stuck_s(), 1))
            return
        renewed = self._store.renew(now, self._lease_s)
        self._renewed_at = time.monotonic()
        with self._lock:
            self._steps.update({key: step for key, step in now.items() if key in self._steps})
        for key in now.keys() - renewed:
            self._runtime.cancel(attempt_name(*key))
