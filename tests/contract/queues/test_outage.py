"""The server is killed and comes back."""

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


# A server that forgets is given its queues a moment after it listens: until then it refuses.
CONNECTION_ERRORS = (Unavailable, Refused)


def sends(queue: Queue, body: bytes) -> bool:
    """Whether the queue takes a message now."""
    with suppress(*CONNECTION_ERRORS):
        queue.put([Outgoing(body)])
        return True
    return False


def receives(queue: Queue) -> set[bytes]:
    """What the queue hands out now, acknowledged; nothing while it is away."""
    with suppress(*CONNECTION_ERRORS):
        messages = queue.receive(wait_s=1)
        queue.ack(messages)
        return {message.body for message in messages}
    return set()


def test_an_outage_is_said_and_passes(place: Place) -> None:
    """Every verb says that the service is away, and the same object works when it is back."""
    queue = place.queue()
    queue.put([Outgoing(b"first")])
    held = one(queue)
    place.harness.kill()
    try:
        with pytest.raises(Unavailable):
            queue.put([Outgoing(b"lost")])
        with pytest.raises(Unavailable):
            eventually(lambda: queue.receive(wait_s=1), bool)
        for verb in (queue.ack, queue.retry, queue.extend):
            with pytest.raises(Unavailable):
                verb([held])
        with pytest.raises(Unavailable):
            queue.reject([held], "no")
    finally:
        place.harness.restart()
    eventually(lambda: sends(queue, b"after"), bool)
    eventually(lambda: receives(queue), lambda bodies: b"after" in bodies)


def test_a_receive_that_waits_survives_the_outage(place: Place) -> None:
    """A consumer whose server is killed under a waiting receive goes on when it is back."""
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
    """A queue can be given up while its server is away."""
    queue = place.queue()
    queue.put([Outgoing(b"x")])
    one(queue)
    place.harness.kill()
    try:
        queue.close()
    finally:
        place.harness.restart()


def test_messages_outlive_the_server(place: Place) -> None:
    """What was sent before the kill is there after it, in hand or not."""
    place.need("durable")
    queue = place.queue(short=True)
    queue.put([Outgoing(b"held"), Outgoing(b"waiting")])
    queue.receive(limit=1, wait_s=1)
    place.harness.kill()
    place.harness.restart()
    found: set[bytes] = set()

    def received() -> set[bytes]:
        found.update(receives(queue))
        return found

    eventually(received, lambda bodies: len(bodies) == 2)
