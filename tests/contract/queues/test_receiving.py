"""Receiving messages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from renderfarm.queues import Message, Outgoing, Queue, Refused
from tests.contract.queues.harness import eventually, one

if TYPE_CHECKING:
    from tests.contract.queues.harness import Place


def test_an_empty_queue_answers_nothing(place: Place) -> None:
    """An empty queue gives an empty list, with and without waiting."""
    queue = place.queue()
    assert queue.receive() == []
    assert queue.receive(wait_s=1) == []


def test_a_waiting_receive_gets_what_is_sent_meanwhile(place: Place) -> None:
    """A receive that waits on an empty queue returns the message that is sent meanwhile."""
    queue = place.queue()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(one, queue)
        place.again(queue).put([Outgoing(b"late")])
        assert waiting.result().body == b"late"


def test_the_limit_holds(place: Place) -> None:
    """A receive returns at most `limit` messages."""
    queue = place.queue()
    queue.put([Outgoing(str(n).encode()) for n in range(15)])
    seen: set[bytes] = set()
    while len(seen) < 15:
        batch = queue.receive(limit=4, wait_s=1)
        assert len(batch) <= 4
        seen |= {message.body for message in batch}


def test_one_receive_goes_beyond_the_batch_of_the_service(place: Place) -> None:
    """One receive can return more messages than one call of the service."""
    queue = place.queue()
    queue.put([Outgoing(str(n).encode()) for n in range(40)])
    sizes: list[int] = []
    while sum(sizes) < 40:
        sizes.append(len(queue.receive(limit=40, wait_s=1)))
    assert max(sizes) > 10


def test_the_first_attempt_is_one(place: Place) -> None:
    """The first delivery of a message is its attempt 1."""
    queue = place.queue()
    queue.put([Outgoing(b"x")])
    assert one(queue).attempt == 1


def test_another_opening_receives(place: Place) -> None:
    """A sender and a receiver that share only the URL use the same queue."""
    queue = place.queue()
    queue.put([Outgoing(b"x")])
    assert one(place.again(queue)).body == b"x"


def test_two_consumers_never_hold_one_message(place: Place) -> None:
    """Competing consumers never receive the same message, and together receive all of them.

    Standard queues of SQS may sometimes deliver a message twice, and so may its emulator.
    """
    first = place.queue()
    second = place.again(first)
    first.put([Outgoing(str(n).encode()) for n in range(40)])
    missing = set(range(40))

    def drain(queue: Queue) -> list[Message]:
        received: list[Message] = []
        while missing:
            batch = queue.receive(limit=3, wait_s=1)
            received += batch
            missing.difference_update(int(message.body) for message in batch)
        return received

    with ThreadPoolExecutor() as pool:
        messages = [
            message for received in pool.map(drain, (first, second)) for message in received
        ]
    numbers = sorted(int(message.body) for message in messages)
    assert sorted(set(numbers)) == list(range(40))
    assert len(numbers) <= 40 + (0 if "exclusive" in place.harness.abilities else 2)


def test_an_idle_consumer_keeps_nothing_back(place: Place) -> None:
    """Messages that an idle consumer prefetched are delivered to consumers that receive."""
    idle = place.queue(short=True)
    busy = place.again(idle)
    idle.put([Outgoing(str(n).encode()) for n in range(10)])
    one(idle)
    found: set[bytes] = set()

    def settle() -> int:
        messages = busy.receive(wait_s=1)
        busy.ack(messages)
        found.update(message.body for message in messages)
        return len(found)

    assert eventually(settle, lambda count: count >= 9) >= 9


def test_a_queue_that_is_not_there_is_refused(place: Place) -> None:
    """A wrong name raises Refused at once, with the name, and not Unavailable."""
    place.need("missing")
    queue = place.open(place.harness.missing())
    with pytest.raises(Refused, match="missing"):
        queue.receive()
    with pytest.raises(Refused, match="missing"):
        queue.send({"prompt": "x"})
