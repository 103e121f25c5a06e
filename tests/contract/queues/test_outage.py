"""Outages: the server is killed and started again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from renderfarm.queues import Outgoing, Queue, Refused, Unavailable
from tests.contract.queues.harness import eventually, one

if TYPE_CHECKING:
    from tests.contract.queues.harness import Place


@pytest.fixture(autouse=True)
def _killable(place: Place) -> None:
    place.need("outage")


# A server without a disk gets its queues a moment after it listens, and refuses until then.
CONNECTION_ERRORS = (Unavailable, Refused)


def sends(queue: Queue, body: bytes) -> bool:
    """Whether the queue accepts a message now."""
    with suppress(*CONNECTION_ERRORS):
        queue.put([Outgoing(body)])
        return True
    return False


def receives(queue: Queue) -> set[bytes]:
    """Receive and acknowledge messages; return none while the server is down."""
    with suppress(*CONNECTION_ERRORS):
        messages = queue.receive(wait_s=1)
        queue.ack(messages)
        return {message.body for message in messages}
    return set()


def test_every_verb_reports_an_outage_and_recovers(place: Place) -> None:
    """Every verb raises Unavailable during an outage, and works again afterwards."""
    queue = place.queue()
    queue.put([Outgoing(b"first")])
    message = one(queue)
    place.harness.kill()
    try:
        with pytest.raises(Unavailable):
            queue.put([Outgoing(b"lost")])
        with pytest.raises(Unavailable):
            eventually(lambda: queue.receive(wait_s=1), bool)
        for verb in (queue.ack, queue.retry, queue.extend):
            with pytest.raises(Unavailable):
                verb([message])
        with pytest.raises(Unavailable):
            queue.reject([message], "no")
    finally:
        place.harness.restart()
    eventually(lambda: sends(queue, b"after"), bool)
    eventually(lambda: receives(queue), lambda bodies: b"after" in bodies)


def test_a_receive_that_waits_survives_the_outage(place: Place) -> None:
    """A waiting receive whose server is killed works again when the server is back."""
    queue = place.queue()
    sender = place.again(queue)
    with ThreadPoolExecutor() as pool:
        consumer = pool.submit(
            eventually, lambda: receives(queue), lambda bodies: b"after" in bodies
        )
        place.harness.kill()
        place.harness.restart()
        eventually(lambda: sends(sender, b"after"), bool)
        consumer.result()


def test_closing_during_an_outage(place: Place) -> None:
    """A queue can be closed while its server is down."""
    queue = place.queue()
    queue.put([Outgoing(b"x")])
    one(queue)
    place.harness.kill()
    try:
        queue.close()
    finally:
        place.harness.restart()


def test_messages_outlive_the_server(place: Place) -> None:
    """Messages that were sent before the kill, leased or not, exist after it."""
    place.need("durable")
    queue = place.queue(short=True)
    queue.put([Outgoing(b"leased"), Outgoing(b"waiting")])
    queue.receive(limit=1, wait_s=1)
    place.harness.kill()
    place.harness.restart()
    found: set[bytes] = set()

    def received() -> int:
        found.update(receives(queue))
        return len(found)

    eventually(received, lambda count: count == 2)
