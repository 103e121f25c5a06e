"""One source's loop: receive, commit, then acknowledge; hold back while there is no room.

What is in hand while the database is away, or the tenant's queue is full, stays in hand and its
leases are extended: handing it back would use up its deliveries, and it would end in the
dead-letter for no fault of its own. Nothing more is received meanwhile.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import NotFound, summary
from app.intake import pacing
from app.intake.in_flight import InFlightMessages
from app.intake.sorting import Bad, Good, Outcome, admit, sort
from renderfarm.queues import QueueError

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from app.intake.records import Records
    from app.tenants.tenants import Tenant
    from renderfarm.queues import Message, Queue

log = structlog.get_logger("app.intake")
WAIT_S = 2.0
FULL_S = 1.0
ASIDE_S = 300.0
"""When a bad message comes again that could not be moved to the dead-letter."""


class Reader:
    """Brings the messages of one source in until `stop` is set. Its failures are its own.

    One receive waits up to `wait_s` for messages; a stop is noticed no later.
    """

    def __init__(
        self,
        name: str,
        queue: Queue,
        records: Records,
        stop: threading.Event,
        *,
        wait_s: float = WAIT_S,
    ) -> None:
        self._name = name
        self._queue = queue
        self._records = records
        self._stop = stop
        self._wait_s = wait_s
        self._hand = InFlightMessages(queue, name)
        self._tenant: Tenant | None = None
        self._free = 0
        self._looked_at = 0.0
        self._state = ""

    def serve(self) -> None:
        """Read until told to stop, whatever fails; then hand back what is in hand."""
        failures = 0
        while not self._stop.is_set():
            try:
                self._round()
                failures = 0
            except (QueueError, SQLAlchemyError, NotFound) as error:
                failures += 1
                self._wait(error, failures)
            except Exception:
                # What was in hand comes again when its leases end, not at once.
                failures += 1
                log.exception("failed", source=self._name)
                self._stop.wait(pacing.pause_s(failures))
        self.close()

    def close(self) -> None:
        """InFlightMessages back at once what is in hand, and give the queue up. Again: does nothing."""
        if left := self._hand.close():
            try:
                self._queue.retry(left)
                log.info("handed back", source=self._name, messages=len(left))
            except QueueError as error:
                log.warning("not handed back", source=self._name, cause=summary(error))
        self._queue.close()

    def _round(self) -> None:
        tenant, free = self._look()
        limit = pacing.wanted(free)
        if not limit:
            self._say("full", tenant=tenant.name, max_queued=tenant.max_queued)
            self._stop.wait(FULL_S)
            return
        messages = self._queue.receive(limit, self._wait_s)
        self._say("reading")
        if messages:
            self._hand.take(messages)
            try:
                self._bring_in(tenant, messages)
            finally:
                if not self._stop.is_set():
                    self._hand.drop(messages)

    def _look(self) -> tuple[Tenant, int]:
        """The tenant, and how many more of its jobs may wait as far as we know."""
        now = time.monotonic()
        if self._tenant is None or pacing.needs_look(self._free, now - self._looked_at):
            self._tenant, self._free = self._records.look()
            self._looked_at = now
        return self._tenant, self._free

    def _bring_in(self, tenant: Tenant, messages: Sequence[Message]) -> None:
        """Settle every message, or leave off when told to stop."""
        good, bad = sort(messages, partial(self._records.check, tenant))
        failures = 0
        while (good or bad) and not self._stop.is_set():
            try:
                outcome = self._commit(good, bad)
            except SQLAlchemyError as error:
                # What of it was committed is a repeat the next time.
                failures += 1
                self._wait(error, failures)
                continue
            self._settle(outcome)
            good, bad, failures = outcome.waiting, (), 0
            if good:
                self._say("full", tenant=tenant.name, max_queued=tenant.max_queued)
                self._stop.wait(FULL_S)

    def _commit(self, good: tuple[Good, ...], bad: tuple[Bad, ...]) -> Outcome:
        tenant, free = self._look()
        room = max(0, free)
        admitted = admit(good[:room], partial(self._records.store, tenant))
        outcome = Outcome(refused=bad) + admitted + Outcome(waiting=good[room:])
        self._records.record(tenant, outcome.refused)
        self._free = 0 if outcome.waiting else free - outcome.made
        return outcome

    def _settle(self, outcome: Outcome) -> None:
        """Acknowledge what is committed. What can't be comes again, and is a repeat then."""
        accepted = [each.message for each in outcome.accepted]
        if accepted:
            try:
                self._queue.ack(accepted)
            except QueueError as error:
                log.warning("not acknowledged", source=self._name, cause=summary(error))
            self._hand.drop(accepted)
        for bad in outcome.refused:
            self._bury(bad)
        log.info(
            "brought in",
            source=self._name,
            jobs=outcome.made,
            repeats=len(accepted) - outcome.made,
            refused=len(outcome.refused),
        )

    def _bury(self, bad: Bad) -> None:
        """Move a message to the dead-letter; by itself, so that no other depends on it."""
        log.warning("refused", source=self._name, message=bad.message.id, reason=bad.reason)
        try:
            self._queue.reject([bad.message], bad.reason)
        except QueueError as error:
            log.warning("not moved", source=self._name, cause=summary(error))
            self._put_aside(bad.message)
        else:
            self._hand.drop([bad.message])

    def _put_aside(self, message: Message) -> None:
        """Its record is kept, but it is still in the queue: see it rarely until that is mended."""
        self._hand.drop(
            [message]
        )  # or its lease might be extended after this, and cut the time short
        try:
            self._queue.retry([message], ASIDE_S)
        except QueueError as error:
            log.warning("not put aside", source=self._name, cause=summary(error))

    def _wait(self, error: Exception, failures: int) -> None:
        self._say("waiting", cause=summary(error))
        self._stop.wait(pacing.pause_s(failures))

    def _say(self, state: str, **fields: Any) -> None:
        """Log a state when it begins."""
        if state != self._state:
            self._state = state
            log.info(state, source=self._name, **fields)
