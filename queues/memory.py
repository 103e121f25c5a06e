"""`memory://NAME`: the reference. Shared by name within one process, gone with it.

For users' tests and for learning what a queue of this package does; the other adapters must
behave as this one.
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
    """One message: due at `due_at` (monotonic), in hand or not, delivered so many times."""

    message: Outgoing
    due_at: float = 0.0
    in_hand: bool = False
    deliveries: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up, and why."""

    message: Outgoing
    reason: str


@dataclass(slots=True)
class Store:
    """What one name holds. `changed` guards all of it, and wakes whoever waits for a message."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    entries: list[_Entry] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)

    def remove(self, entry: _Entry) -> None:
        """Forget an entry."""
        self.entries.remove(entry)

    def bury(self, entry: _Entry, reason: str) -> None:
        """Move an entry to the dead-letter."""
        self.remove(entry)
        self.dead.append(DeadLetter(entry.message, reason))

    def ready(self, now: float) -> Iterator[_Entry]:
        """The entries that may be handed out, oldest first; a group waits for its first."""
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
    """The store that `memory://name` uses: for tests that look inside."""
    with _STORES_LOCK:
        return _STORES.setdefault(name, Store())


class MemoryQueue(Queue):
    """A queue on one `Store`."""

    def __init__(self, held: Store, *, lease_s: float, max_deliveries: int) -> None:
        self.lease_s = lease_s
        self._store = held
        self._max_deliveries = max_deliveries

    def put(self, messages: Sequence[Outgoing]) -> None:
        """Append; a body above `LIMIT_BYTES` is refused, as a service would."""
        small = [each for each in messages if len(each.body) <= LIMIT_BYTES]
        with self._store.changed:
            self._store.entries += [_Entry(message) for message in small]
            self._store.changed.notify_all()
        large = (each for each in messages if len(each.body) > LIMIT_BYTES)
        refuse({each.id: f"larger than {LIMIT_BYTES} bytes" for each in large})

    def receive(self, limit: int = 10, wait_s: float = 0.0) -> list[Message]:
        """Hand out what is due, oldest first; give up what was delivered too often."""
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
            entry.in_hand, entry.due_at = True, now + self.lease_s
            taken.append(_message(entry))
        return taken

    def ack(self, messages: Sequence[Message]) -> list[Message]:
        """Forget messages."""
        return self._settle(messages, self._store.remove)

    def retry(self, messages: Sequence[Message], delay_s: float = 0.0) -> list[Message]:
        """Make messages due after `delay_s`."""

        def hand_back(entry: _Entry) -> None:
            entry.in_hand, entry.due_at = False, time.monotonic() + delay_s

        return self._settle(messages, hand_back)

    def reject(self, messages: Sequence[Message], reason: str) -> list[Message]:
        """Move messages to `Store.dead`."""
        return self._settle(messages, lambda entry: self._store.bury(entry, reason))

    def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Make messages due after another `lease_s`, if not settled before."""

        def start_anew(entry: _Entry) -> None:
            entry.due_at = time.monotonic() + self.lease_s

        return self._settle(messages, start_anew)

    def _settle(
        self, messages: Sequence[Message], settle: Callable[[_Entry], None]
    ) -> list[Message]:
        lost = []
        with self._store.changed:
            for message in messages:
                entry: _Entry = message.receipt
                mine = entry.in_hand and entry.deliveries == message.attempt
                if mine and entry.due_at > time.monotonic() and entry in self._store.entries:
                    settle(entry)
                else:
                    lost.append(message)
            self._store.changed.notify_all()
        return lost

    def close(self) -> None:
        """Nothing to give up: the store stays for the next who opens the name."""


def _message(entry: _Entry) -> Message:
    sent = entry.message
    return Message(sent.body, sent.id, entry.deliveries, dict(sent.attributes), entry)


def open_address(address: Address) -> MemoryQueue:
    """The queue at `memory://NAME?lease_s=30&max_deliveries=5`."""
    address.allow("lease_s", "max_deliveries")
    return MemoryQueue(
        store(address.host), lease_s=address.lease_s, max_deliveries=address.max_deliveries
    )
