"""Harness: what the conformance suite needs of each service, in addition to the adapter.

A harness runs one service: it makes queues, reads dead-letter queues with the service's own SDK
(never with the adapter under test), kills the server and starts it again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

from renderfarm.queues import open_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from renderfarm.queues import Message, Queue

T = TypeVar("T")
LONG_LEASE_S = 60.0
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Dead:
    """One message of a dead-letter queue; `reason` is None if the service itself moved it there."""

    body: bytes
    reason: str | None
    attributes: Mapping[str, str]


class Harness(Protocol):
    """A running service."""

    abilities: frozenset[str]
    """The abilities of the service beyond the port's promises; tests of others are skipped.

    `exclusive`: never delivers a message to two consumers at once (other services sometimes do).
    `groups`: keeps the order within a group. `group_waits`: delivers no message of a group while an
    earlier one is leased. `knows_lost`: knows if a lease was lost. `counts`: counts deliveries.
    `dedup`: drops a second message with the same id. `outage`: has a server that can be killed.
    `durable`: keeps messages when it is killed. `missing`: refuses a queue that does not exist.
    """
    short_lease_s: float
    limit_bytes: int

    def make(self, *, lease_s: float, max_deliveries: int, ordered: bool) -> str:
        """Make a queue with a new name and a dead-letter queue; return its URL."""

    def dead(self, url: str) -> list[Dead]:
        """Return the current messages of the dead-letter queue."""

    def missing(self) -> str:
        """Return the URL of a queue that does not exist."""

    def kill(self) -> None:
        """Kill the server with SIGKILL."""

    def restart(self) -> None:
        """Start the server again on the same port, with the same queues."""

    def stop(self) -> None:
        """Stop the service and remove its files."""


@dataclass(slots=True)
class Place:
    """The queues of one test on one service, which are closed at the end of the test."""

    harness: Harness
    opened: list[Queue] = field(default_factory=list)
    urls: dict[int, str] = field(default_factory=dict)

    def need(self, *abilities: str) -> None:
        """Skip the test if the service cannot do this."""
        for ability in abilities:
            if ability not in self.harness.abilities:
                pytest.skip(f"the service does not promise this: {ability}")

    def queue(
        self, *, short: bool = False, max_deliveries: int = 5, ordered: bool = False
    ) -> Queue:
        """Make a queue and open it; with `short` it has the service's shortest lease."""
        lease_s = self.harness.short_lease_s if short else LONG_LEASE_S
        return self.open(
            self.harness.make(lease_s=lease_s, max_deliveries=max_deliveries, ordered=ordered)
        )

    def open(self, url: str) -> Queue:
        """Open a queue that is closed at the end of the test."""
        queue = open_queue(url)
        self.opened.append(queue)
        self.urls[id(queue)] = url
        return queue

    def again(self, queue: Queue) -> Queue:
        """Open the same queue a second time, like another process."""
        return self.open(self.urls[id(queue)])

    def dead(self, queue: Queue, count: int) -> list[Dead]:
        """Wait until the dead-letter queue has `count` messages; return them."""
        url = self.urls[id(queue)]
        return eventually(lambda: self.harness.dead(url), lambda dead: len(dead) >= count)

    def close(self) -> None:
        """Close every queue."""
        for queue in self.opened:
            queue.close()


def eventually(ask: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """Poll until the result is enough; fail with the last result after `PATIENCE_S`."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not enough(answer := ask()):
        assert time.monotonic() < give_up_at, f"still {answer!r} after {PATIENCE_S:g} s"
    return answer


def take(queue: Queue, count: int) -> list[Message]:
    """Receive until there are `count` messages."""
    taken: list[Message] = []

    def more() -> int:
        taken.extend(queue.receive(limit=count - len(taken), wait_s=1))
        return len(taken)

    eventually(more, lambda found: found >= count)
    return taken


def one(queue: Queue) -> Message:
    """Receive until there is one message."""
    return take(queue, 1)[0]
