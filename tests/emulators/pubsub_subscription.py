"""One Pub/Sub subscription: which consumer has which message until when. No I/O, no clock.

Follows https://cloud.google.com/pubsub/docs/subscription-overview. Not emulated: exactly-once
delivery, filters, snapshots, seek.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.pubsub_v1 import types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAX_RETRY_DELAY_S = 600.0


@dataclass(slots=True, eq=False)
class Entry:
    """One message. A `holder` has it until `due_at`; without a holder it is due then."""

    message: types.PubsubMessage
    due_at: float
    ack_id: str = ""
    holder: object | None = None
    failures: int = 0
    """How often the message was handed back, or its deadline passed."""


@dataclass(slots=True)
class Subscription:
    """All messages of a subscription, oldest first. The caller holds the server's lock."""

    settings: types.Subscription
    forward: Callable[[str, types.PubsubMessage], None]
    """Publishes dead letters to their topic."""
    entries: list[Entry] = field(default_factory=list)

    def add(self, message: types.PubsubMessage, now: float) -> None:
        """Add a newly published message."""
        self.entries.append(Entry(message, now))

    def take(
        self, limit: int, deadline_s: float, holder: object, now: float
    ) -> list[types.ReceivedMessage]:
        """Deliver up to `limit` messages that are due, each for `deadline_s`."""
        self._expire(now)
        taken: list[types.ReceivedMessage] = []
        for entry in self._due(holder, now):
            if len(taken) == limit:
                break
            entry.ack_id, entry.holder = secrets.token_hex(16), holder
            entry.due_at = now + deadline_s
            taken.append(
                types.ReceivedMessage(
                    ack_id=entry.ack_id,
                    message=entry.message,
                    delivery_attempt=entry.failures + 1 if self._max_attempts else 0,
                )
            )
        return taken

    def acknowledge(self, ack_ids: Iterable[str], now: float) -> None:
        """Remove messages. An id whose deadline has passed has no effect."""
        for entry in self._leased(ack_ids, now):
            self.entries.remove(entry)

    def modify(self, ack_ids: Iterable[str], deadline_s: float, now: float) -> None:
        """Set new deadlines; 0 hands the messages back."""
        for entry in self._leased(ack_ids, now):
            if deadline_s:
                entry.due_at = now + deadline_s
            else:
                self._fail(entry, now)

    def hand_back(self, ack_ids: Iterable[str], now: float) -> None:
        """Undo a delivery that did not arrive; this costs no attempt."""
        for entry in self._leased(ack_ids, now):
            entry.holder, entry.due_at = None, now

    def held_by(self, holder: object, now: float) -> int:
        """Return how many messages this holder has."""
        self._expire(now)
        return sum(entry.holder is holder for entry in self.entries)

    def next_due_at(self) -> float:
        """Return the next time at which a message becomes due or its lock ends."""
        return min((entry.due_at for entry in self.entries), default=float("inf"))

    @property
    def _max_attempts(self) -> int:
        return int(self.settings.dead_letter_policy.max_delivery_attempts)

    def _leased(self, ack_ids: Iterable[str], now: float) -> list[Entry]:
        self._expire(now)
        wanted = set(ack_ids)
        return [each for each in self.entries if each.holder and each.ack_id in wanted]

    def _expire(self, now: float) -> None:
        for entry in [each for each in self.entries if each.holder and each.due_at <= now]:
            self._fail(entry, now)

    def _due(self, holder: object, now: float) -> Iterator[Entry]:
        """Yield the messages that are due; those of a key in order and to one holder at a time."""
        blocked: set[str] = set()
        for entry in list(self.entries):
            key = entry.message.ordering_key if self.settings.enable_message_ordering else ""
            if key in blocked:
                continue
            if entry.holder is None and entry.due_at <= now:
                yield entry
            elif key and entry.holder is not holder:
                blocked.add(key)

    def _fail(self, entry: Entry, now: float) -> None:
        """End a delivery: the message waits for the retry policy's delay, or is a dead letter."""
        if entry.holder is None:
            return
        entry.holder = None
        entry.failures += 1
        if self._max_attempts and entry.failures >= self._max_attempts:
            self.entries.remove(entry)
            self.forward(self.settings.dead_letter_policy.dead_letter_topic, self._dead(entry))
            return
        entry.due_at = now + self._retry_delay_s(entry.failures)
        self._repeat_after(entry, now)

    def _repeat_after(self, first: Entry, now: float) -> None:
        """Deliver all later messages of the same key again, too."""
        key = first.message.ordering_key
        if not key or not self.settings.enable_message_ordering:
            return
        for entry in self.entries[self.entries.index(first) + 1 :]:
            if entry.holder is not None and entry.message.ordering_key == key:
                entry.holder, entry.due_at = None, now
                entry.failures += 1

    def _retry_delay_s(self, failures: int) -> float:
        if "retry_policy" not in self.settings:
            return 0.0
        policy = self.settings.retry_policy
        least = policy.minimum_backoff.total_seconds()
        most = policy.maximum_backoff.total_seconds() or MAX_RETRY_DELAY_S
        return float(min(most, least * 2 ** (failures - 1)))

    def _dead(self, entry: Entry) -> types.PubsubMessage:
        _, project, _, name = self.settings.name.split("/")
        prefix = "CloudPubSubDeadLetterSource"
        source = {
            f"{prefix}DeliveryCount": str(entry.failures),
            f"{prefix}Subscription": name,
            f"{prefix}SubscriptionProject": project,
            f"{prefix}TopicPublishTime": entry.message.publish_time.isoformat(),
        }
        return types.PubsubMessage(
            data=entry.message.data,
            attributes={**entry.message.attributes, **source},
            ordering_key=entry.message.ordering_key,
        )
