"""`memory://NAME`: the reference adapter, shared by name within one process, gone at its end.

Use it in tests, and to learn how a queue of this package behaves; the other adapters behave alike.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from renderfarm.queues.base import Message, Outgoing, Queue, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from renderfarm.queues.address import Address

LIMIT_BYTES = 1_048_576


@dataclass(slots=True, eq=False)
class _Entry:
    """One message: due at `due_at` (monotonic), leased or not, with its number of deliveries."""

    message: Outgoing
    due_at: float = 0.0
    leased: bool = False
    deliveries: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter, with the reason."""

    message: Outgoing
    reason: str


@dataclass(slots=True)
class Store:
    """The content of one name.

    `changed` guards all of it, and wakes threads that wait for a message.
    """

    changed: threading.Condition = field(default_factory=threading.Condition)
    entries: list[_Entry] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)

    def remove(self, entry: _Entry) -> None:
        """Remove an entry."""
        self.entries.remove(entry)

    def bury(self, entry: _Entry, reason: str) -> None:
        """Move an entry to the dead letters."""
        self.remove(entry)
        self.dead.append(DeadLetter(entry.message, reason))

    def ready(self, now: float) -> Iterator[_Entry]:
        """Yield the entries that may be delivered, oldest first.

        A message that is not due yet delays all later ones of its group.
        """
        waiting: set[str] = set()
        for entry in list(self.entries):
            group = entry.message.group
            if group in waiting:
                continue
            if entry.due_at <= now:
                yield entry
            elif group is not None:
                waiting.add(group)


_STORES: dict[str, Store] = {}
_STORES_LOCK = threading.Lock()


def store(name: str) -> Store:
    """Return the store that `memory://name` uses: for tests that look inside."""
    with _STORES_LOCK:
        return _STORES.setdefault(name, Store())


class MemoryQueue(Queue):
    """A queue on one `Store`."""

    def __init__(self, content: Store, *, lease_s: float, max_deliveries: int) -> None:
        self.lease_s = lease_s
        self._store = content
        self._max_deliveries = max_deliveries

    def put(self, messages: Sequence[Outgoing]) -> None:
        """Append; a body above `LIMIT_BYTES` is refused, like a service would."""
        small = [each for each in messages if len(each.body) <= LIMIT_BYTES]
        with self._store.changed:
            self._store.entries += [_Entry(message) for message in small]
            self._store.changed.notify_all()
        large = (each for each in messages if len(each.body) > LIMIT_BYTES)
        refuse({each.id: f"larger than {LIMIT_BYTES} bytes" for each in large})

    def receive(self, limit: int = 10, wait_s: float = 0.0) -> list[Message]:
        """Deliver due messages, oldest first; bury those that were delivered too often."""
        deadline = time.monotonic() + wait_s
        with self._store.changed:
            while not (taken := self._take(limit)):
                now = time.monotonic()
                if now >= deadline:
                    break
                due = min((entry.due_at for entry in self._store.entries), default=deadline)
                self._store.changed.wait(max(0.001, min(due, deadline) - now))
            return taken

    def _take(self, limit: int) -> list[Message]:
        now = time.monotonic()
        taken: list[Message] = []
        for entry in self._store.ready(now):
            if len(taken) == limit:
                break
            if entry.deliveries >= self._max_deliveries:
                self._store.bury(entry, f"delivered {entry.deliveries} times")
                continue
            entry.deliveries += 1
            entry.leased, entry.due_at = True, now + self.lease_s
            taken.append(_message(entry))
        return taken

    def ack(self, messages: Sequence[Message]) -> list[Message]:
        """Remove messages."""
        return self._settle(messages, self._store.remove)

    def retry(self, messages: Sequence[Message], delay_s: float = 0.0) -> list[Message]:
        """Make messages due after `delay_s`."""

        def make_due(entry: _Entry) -> None:
            entry.leased, entry.due_at = False, time.monotonic() + delay_s

        return self._settle(messages, make_due)

    def reject(self, messages: Sequence[Message], reason: str) -> list[Message]:
        """Move messages to `Store.dead`."""
        return self._settle(messages, lambda entry: self._store.bury(entry, reason))

    def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Extend the lease by another `lease_s`, if the message is not settled."""

        def restart_lease(entry: _Entry) -> None:
            entry.due_at = time.monotonic() + self.lease_s

        return self._settle(messages, restart_lease)

    def _settle(
        self, messages: Sequence[Message], settle: Callable[[_Entry], None]
    ) -> list[Message]:
        lost = []
        with self._store.changed:
            for message in messages:
                entry: _Entry = message.receipt
                current = entry.leased and entry.deliveries == message.attempt
                if current and entry.due_at > time.monotonic() and entry in self._store.entries:
                    settle(entry)
                else:
                    lost.append(message)
            self._store.changed.notify_all()
        return lost

    def close(self) -> None:
        """Do nothing: the next user of the name finds the messages."""


def _message(entry: _Entry) -> Message:
    sent = entry.message
    return Message(sent.body, sent.id, entry.deliveries, dict(sent.attributes), entry)


def open_address(address: Address) -> MemoryQueue:
    """Open the queue at `memory://NAME?lease_s=30&max_deliveries=5`."""
    address.allow("lease_s", "max_deliveries")
    return MemoryQueue(
        store(address.host), lease_s=address.lease_s, max_deliveries=address.max_deliveries
    )
