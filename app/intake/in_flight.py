"""Messages in flight: extends their leases (visibility timeout) until they are settled."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog

from app.intake import pacing
from renderfarm.queues import QueueError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from renderfarm.queues import Message, Queue

CLOSE_TIMEOUT_S = 5.0  # an extension may hang while the service is unavailable

log = structlog.get_logger("app.intake")


class InFlightMessages:
    """Knows when each message was leased, and extends the leases that are due.

    Safe from any thread.

    A message whose lease was lost is dropped: it comes again, and if its job was committed
    meanwhile, the second delivery is a repeat.
    """

    def __init__(self, queue: Queue, source: str) -> None:
        self._queue = queue
        self._source = source
        self._changed = threading.Condition()
        self._messages: dict[int, Message] = {}  # by identity: two may be equal
        self._leased_at: dict[int, float] = {}
        self._closed = False
        self._failures = 0
        self._thread = threading.Thread(
            target=self._extend_due, name=f"lease {source}", daemon=True
        )
        self._thread.start()

    def take(self, messages: Sequence[Message]) -> None:
        """Hold messages that were just received."""
        with self._changed:
            self._messages |= {id(message): message for message in messages}
            self._leased_at |= dict.fromkeys(map(id, messages), time.monotonic())
            self._changed.notify()

    def drop(self, messages: Sequence[Message]) -> None:
        """Drop messages: they are settled, or their leases may run out."""
        with self._changed:
            for message in messages:
                self._drop(id(message))

    def close(self) -> list[Message]:
        """Stop extending. Return the messages that were still held, to be handed back."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(CLOSE_TIMEOUT_S)
        with self._changed:
            unsettled = list(self._messages.values())
            self._messages.clear()
            self._leased_at.clear()
        return unsettled

    def _extend_due(self) -> None:
        while due := self._await_due():
            now = time.monotonic()
            try:
                lost = {id(message) for message in self._queue.extend(due)}
                self._failures = 0
            except QueueError as error:
                self._failures += 1
                log.warning("lease_extension_failed", source=self._source, cause=str(error))
            except Exception:  # without this thread every lease would run out
                self._failures += 1
                log.exception("lease_extension_failed", source=self._source)
            else:
                self._record(due, lost, now)

    def _await_due(self) -> list[Message]:
        """Wait for leases that are due; an empty list means the end."""
        with self._changed:
            if self._failures:
                self._changed.wait_for(lambda: self._closed, pacing.pause_s(self._failures))
            while not self._closed:
                now, lease_s = time.monotonic(), self._queue.lease_s
                if keys := pacing.due(self._leased_at, lease_s, now):
                    return [self._messages[key] for key in keys]
                self._changed.wait(pacing.next_due_s(self._leased_at, lease_s, now))
        return []

    def _record(self, due: Sequence[Message], lost: set[int], now: float) -> None:
        with self._changed:
            held = [key for key in map(id, due) if key in self._leased_at]  # not settled meanwhile
            gone = [key for key in held if key in lost]
            self._leased_at |= dict.fromkeys(held, now)
            for key in gone:
                self._drop(key)
        log.info("leases_extended", source=self._source, messages=len(held), lost=len(gone))

    def _drop(self, key: int) -> None:
        self._messages.pop(key, None)
        self._leased_at.pop(key, None)
