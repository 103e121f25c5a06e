"""The loop of one source: receive, commit, then acknowledge; hold back while there is no room.

Messages in flight stay in flight while the database is unavailable or the tenant's queue is full,
and their leases are extended. Handing them back would use up their deliveries, and they would end
in the dead-letter queue through no fault of their own. Nothing more is received meanwhile
(backpressure).
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
from app.intake.triage import Bad, Good, Outcome, admit, sort
from renderfarm.queues import QueueError

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from app.intake.database import IntakeDatabase
    from app.tenants.tenants import Tenant
    from renderfarm.queues import Message, Queue

log = structlog.get_logger("app.intake")
WAIT_S = 2.0
FULL_PAUSE_S = 1.0
EVENTS = ("source_full", "source_reading", "source_waiting")
"""The log events of `_enter`, one for each state of a source."""
DEFER_S = 300.0
"""When a bad message comes again that could not be moved to the dead-letter queue."""


class Reader:
    """Turns the messages of one source into jobs until `stop` is set. It fails by itself.

    One receive waits up to `wait_s` for messages; a stop is noticed no later.
    """

    def __init__(
        self,
        name: str,
        queue: Queue,
        database: IntakeDatabase,
        stop: threading.Event,
        *,
        wait_s: float = WAIT_S,
    ) -> None:
        self._name = name
        self._queue = queue
        self._database = database
        self._stop = stop
        self._wait_s = wait_s
        self._in_flight = InFlightMessages(queue, name)
        self._tenant: Tenant | None = None
        self._free = 0
        self._counted_at = 0.0
        self._state = ""

    def serve(self) -> None:
        """Read until `stop` is set, whatever fails; then hand back the messages in flight."""
        failures = 0
        while not self._stop.is_set():
            try:
                self._round()
                failures = 0
            except (QueueError, SQLAlchemyError, NotFound) as error:
                failures += 1
                self._wait(error, failures)
            except Exception:
                # Messages in flight come again when their leases end, not at once.
                failures += 1
                log.exception("unexpected_error", source=self._name)
                self._stop.wait(pacing.pause_s(failures))
        self.close()

    def close(self) -> None:
        """Hand back the messages in flight at once, and close the queue. Safe to repeat."""
        if unsettled := self._in_flight.close():
            try:
                self._queue.retry(unsettled)
                log.info("messages_handed_back", source=self._name, messages=len(unsettled))
            except QueueError as error:
                log.warning("hand_back_failed", source=self._name, cause=summary(error))
        self._queue.close()

    def _round(self) -> None:
        tenant, free = self._room()
        limit = pacing.wanted(free)
        if not limit:
            self._enter("source_full", tenant=tenant.name, max_queued=tenant.max_queued)
            self._stop.wait(FULL_PAUSE_S)
            return
        messages = self._queue.receive(limit, self._wait_s)
        self._enter("source_reading")
        if messages:
            self._in_flight.take(messages)
            try:
                self._store(tenant, messages)
            finally:
                if not self._stop.is_set():
                    self._in_flight.drop(messages)

    def _room(self) -> tuple[Tenant, int]:
        """Return the tenant, and how many more of its jobs may wait, as far as is known."""
        now = time.monotonic()
        if self._tenant is None or pacing.needs_count(self._free, now - self._counted_at):
            self._tenant, self._free = self._database.room()
            self._counted_at = now
        return self._tenant, self._free

    def _store(self, tenant: Tenant, messages: Sequence[Message]) -> None:
        """Settle every message, or stop early when `stop` is set."""
        good, bad = sort(messages, partial(self._database.check, tenant))
        failures = 0
        while (good or bad) and not self._stop.is_set():
            try:
                outcome = self._commit(good, bad)
            except SQLAlchemyError as error:
                # The part that was committed is a repeat the next time.
                failures += 1
                self._wait(error, failures)
                continue
            self._settle(outcome)
            good, bad, failures = outcome.waiting, (), 0
            if good:
                self._enter("source_full", tenant=tenant.name, max_queued=tenant.max_queued)
                self._stop.wait(FULL_PAUSE_S)

    def _commit(self, good: tuple[Good, ...], bad: tuple[Bad, ...]) -> Outcome:
        tenant, free = self._room()
        room = max(0, free)
        admitted = admit(good[:room], partial(self._database.store, tenant))
        outcome = Outcome(refused=bad) + admitted + Outcome(waiting=good[room:])
        self._database.record(tenant, outcome.refused)
        self._free = 0 if outcome.waiting else free - outcome.made
        return outcome

    def _settle(self, outcome: Outcome) -> None:
        """Acknowledge what is committed.

        A message that cannot be acknowledged comes again as a repeat.
        """
        accepted = [each.message for each in outcome.accepted]
        if accepted:
            try:
                self._queue.ack(accepted)
            except QueueError as error:
                log.warning("acknowledge_failed", source=self._name, cause=summary(error))
            self._in_flight.drop(accepted)
        for bad in outcome.refused:
            self._reject(bad)
        log.info(
            "messages_accepted",
            source=self._name,
            jobs=outcome.made,
            repeats=len(accepted) - outcome.made,
            refused=len(outcome.refused),
        )

    def _reject(self, bad: Bad) -> None:
        """Move a message to the dead-letter queue; by itself, so that no other depends on it."""
        log.warning(
            "message_rejected", source=self._name, message=bad.message.id, reason=bad.reason
        )
        try:
            self._queue.reject([bad.message], bad.reason)
        except QueueError as error:
            log.warning("dead_letter_failed", source=self._name, cause=summary(error))
            self._defer(bad.message)
        else:
            self._in_flight.drop([bad.message])

    def _defer(self, message: Message) -> None:
        """Hide a message that is recorded but still in the queue, so that it rarely comes again."""
        self._in_flight.drop(
            [message]
        )  # otherwise an extension of its lease could shorten the time
        try:
            self._queue.retry([message], DEFER_S)
        except QueueError as error:
            log.warning("defer_failed", source=self._name, cause=summary(error))

    def _wait(self, error: Exception, failures: int) -> None:
        self._enter("source_waiting", cause=summary(error))
        self._stop.wait(pacing.pause_s(failures))

    def _enter(self, state: str, **fields: Any) -> None:
        """Log a state when it begins."""
        if state != self._state:
            self._state = state
            log.info(state, source=self._name, **fields)
