"""Retry with a time limit: a job's last writes wait for a database that is unavailable.

The work is done when these writes come, so a short outage of the database must not waste it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import structlog

from app.database import CONNECTION_ERRORS
from app.errors import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.jobs.records import AttemptCosts, Claim, Failure, NewImage
    from app.jobs.store import Store

log = structlog.get_logger("workers.slots.retrying_store")
T = TypeVar("T")
GIVE_UP_S = 60.0
PAUSE_S = 0.5


class RetryingStore:
    """The writes that end an attempt, with the attempt as their fence.

    Each is repeated every `PAUSE_S` while it raises one of `CONNECTION_ERRORS`, for `GIVE_UP_S`;
    then it raises the last of them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def succeed(
        self, claim: Claim, images: Sequence[NewImage], costs: AttemptCosts, cache_key: bytes | None
    ) -> bool:
        """See `Store.succeed`."""
        return _retry(
            lambda: self._store.succeed(claim.id, claim.attempt, images, costs, cache_key)
        )

    def fail(self, claim: Claim, failure: Failure, max_failures: int) -> str | None:
        """See `Store.fail`."""
        return _retry(lambda: self._store.fail(claim.id, claim.attempt, failure, max_failures))

    def release(self, claim: Claim, delay_s: float = 0.0, checkpoint: str | None = None) -> bool:
        """See `Store.release`."""
        return _retry(lambda: self._store.release(claim.id, claim.attempt, delay_s, checkpoint))

    def end_lease(self, claim: Claim) -> None:
        """Let the lease run out now, so that the reaper takes the job back at once."""
        _retry(lambda: self._store.renew({(claim.id, claim.attempt): 0}, 0.0))


def _retry(write: Callable[[], T]) -> T:
    give_up_at = time.monotonic() + GIVE_UP_S
    while True:
        try:
            return write()
        except CONNECTION_ERRORS as error:
            if time.monotonic() > give_up_at:
                raise
            log.warning("database_unavailable", cause=first_line(error))
            time.sleep(PAUSE_S)
