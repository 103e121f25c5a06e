"""What the conformance suite needs of each service beside the adapter itself.

A harness runs one service: it makes queues, looks into dead-letters with the service's own SDK
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
    """One message found in a dead-letter; `reason` is None when the service gave it up itself."""

    body: bytes
    reason: str | None
    attributes: Mapping[str, str]


class Harness(Protocol):
    """One service, running."""

    abilities: frozenset[str]
    """What the service can do beyond the promises of the port; tests of the rest are skipped.

    `alone`: never hands a message to two consumers at once, where others do so now and then.
    `groups`: keeps order within a group. `group_waits`: hands out nothing of a group while an
    earlier message of it is in hand. `knows_lost`: tells when a lease was lost. `counts`: counts
    deliveries. `dedup`: drops a second message of the same id. `outage`: has a server that can be
    killed. `durable`: keeps messages over that. `missing`: can lack a queue.
    """
    short_lease_s: float
    limit_bytes: int

    def make(self, *, lease_s: float, max_deliveries: int, ordered: bool) -> str:
        """Make a queue of a new name with a dead-letter; return its URL."""

    def dead(self, url: str) -> list[Dead]:
        """Everything that is in the queue's dead-letter now."""

    def missing(self) -> str:
        """The URL of a queue that does not exist."""

    def kill(self) -> None:
        """Kill the server with SIGKILL."""

    def restart(self) -> None:
        """Start it again on the same port, with the same queues in it."""

    def stop(self) -> None:
        """Leave nothing behind."""


@dataclass(slots=True)
class Place:
    """One test's queues on one service; all are closed at its end."""

    harness: Harness
    opened: list[Queue] = field(default_factory=list)
    urls: dict[int, str] = field(default_factory=dict)

    def need(self, *abilities: str) -> None:
        """Skip the test where the service cannot do this."""
        for ability in abilities:
            if ability not in self.harness.abilities:
                pytest.skip(f"the service does not promise this: {ability}")

    def queue(
        self, *, short: bool = False, max_deliveries: int = 5, ordered: bool = False
    ) -> Queue:
        """Make a queue and open it; `short` gives it the shortest lease the service has."""
        lease_s = self.harness.short_lease_s if short else LONG_LEASE_S
        return self.open(
            self.harness.make(lease_s=lease_s, max_deliveries=max_deliveries, ordered=ordered)
        )

    def open(self, url: str) -> Queue:
        """Open a queue, to be closed at the end of the test."""
        queue = open_queue(url)
        self.opened.append(queue)
        self.urls[id(queue)] = url
        return queue

    def again(self, queue: Queue) -> Queue:
        """Open the same queue a second time, as another process would."""
        return self.open(self.urls[id(queue)])

    def dead(self, queue: Queue, count: int) -> list[Dead]:
        """Wait until the dead-letter holds `count` messages; return them."""
        url = self.urls[id(queue)]
        return eventually(lambda: self.harness.dead(url), lambda dead: len(dead) >= count)

    def close(self) -> None:
        """Close every queue."""
        for queue in self.opened:
            queue.close()


def eventually(ask: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """Ask until the answer is enough; give up, showing the last answer, after `PATIENCE_S`."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not enough(answer := ask()):
        assert time.monotonic() < give_up_at, f"still {answer!r} after {PATIENCE_S:g} s"
    return answer


def take(queue: Queue, count: int) -> list[Message]:
    """Receive until `count` messages are in hand."""
    taken: list[Message] = []

    def more() -> int:
        taken.extend(queue.receive(limit=count - len(taken), wait_s=1))
        return len(taken)

    eventually(more, lambda found: found >= count)
    return taken


def one(queue: Queue) -> Message:
    """Receive until one message is in hand."""
    return take(queue, 1)[0]
