"""One Service Bus queue: which message is locked until when. No network, no clock.

Follows https://learn.microsoft.com/azure/service-bus-messaging. Not emulated: sessions, topics,
duplicate detection, deferral, transactions.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True, eq=False)
class Entry:
    """One message. With a `token` it is locked until `due_at`; without, it is due then."""

    encoded: bytes
    number: int
    enqueued_at: float
    due_at: float
    token: str = ""
    failures: int = 0
    reason: str | None = None
    description: str | None = None


@dataclass(slots=True)
class Queue:
    """All messages of a queue, oldest first. A dead-letter queue has no dead-letter queue."""

    lock_s: float
    max_deliveries: int
    dead: Queue | None = None
    entries: list[Entry] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def add(self, encoded: bytes, now: float, due_at: float = 0.0) -> None:
        """Add a message; a scheduled one is delivered from `due_at` on."""
        self.entries.append(Entry(encoded, next(self._numbers), now, max(now, due_at)))

    def take(self, now: float) -> Entry | None:
        """Lock the first message that is due."""
        self._expire(now)
        for entry in self.entries:
            if not entry.token and entry.due_at <= now:
                # A lock token is a UUID made of the delivery's tag, of sixteen ASCII characters.
                entry.token, entry.due_at = secrets.token_hex(8), now + self.lock_s
                return entry
        return None

    def complete(self, token: str, now: float) -> bool:
        """Remove a message. Return False if the lock was lost."""
        if entry := self._locked(token, now):
            self.entries.remove(entry)
        return entry is not None

    def abandon(self, token: str, now: float) -> bool:
        """Unlock a message; the delivery counts."""
        if entry := self._locked(token, now):
            self._fail(entry, now)
        return entry is not None

    def release(self, token: str, now: float) -> bool:
        """Undo a delivery that the receiver did not process; it does not count."""
        if entry := self._locked(token, now):
            entry.token, entry.due_at = "", now
        return entry is not None

    def bury(self, token: str, reason: str | None, description: str | None, now: float) -> bool:
        """Move a message to the dead-letter queue."""
        if entry := self._locked(token, now):
            self._move(entry, reason, description, now)
        return entry is not None

    def renew(self, token: str, now: float) -> float | None:
        """Renew a lock. Return its new end, or None if the lock was lost."""
        entry = self._locked(token, now)
        if entry is None:
            return None
        entry.due_at = now + self.lock_s
        return entry.due_at

    def next_due_at(self) -> float:
        """Return the next time at which a message becomes due or its lock ends."""
        return min((entry.due_at for entry in self.entries), default=float("inf"))

    def _locked(self, token: str, now: float) -> Entry | None:
        self._expire(now)
        return next((each for each in self.entries if token and each.token == token), None)

    def _expire(self, now: float) -> None:
        for entry in [each for each in self.entries if each.token and each.due_at <= now]:
            self._fail(entry, now)

    def _fail(self, entry: Entry, now: float) -> None:
        entry.token, entry.due_at = "", now
        entry.failures += 1
        if self.dead is not None and entry.failures >= self.max_deliveries:
            text = f"delivered {entry.failures} times"
            self._move(entry, "MaxDeliveryCountExceeded", text, now)

    def _move(self, entry: Entry, reason: str | None, description: str | None, now: float) -> None:
        self.entries.remove(entry)
        if self.dead is not None:
            entry.token, entry.due_at = "", now
            entry.reason, entry.description = reason, description
            self.dead.entries.append(entry)
