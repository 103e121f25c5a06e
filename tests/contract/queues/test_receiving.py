"""How messages come to hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from renderfarm.queues import Message, Outgoing, Queue, Refused
from tests.contract.queues.harness import eventually, one

if TYPE_CHECKING:
    from tests.contract.queues.harness import Place


def test_an_empty_queue_answers_nothing(place: Place) -> None:
    """Without a message there is an empty answer, waiting or not."""
    queue = place.queue()
    assert queue.receive() == []
    assert queue.receive(wait_s=1) == []


def test_a_waiting_receive_gets_what_is_sent_meanwhile(place: Place) -> None:
    """A receive that began on an empty queue returns with the message that came later."""
    queue = place.queue()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(one, queue)
        place.again(queue).put([Outgoing(b"late")])
        assert waiting.result().body == b"late"


def test_the_limit_holds(place: Place) -> None:
    """No receive returns more than was asked for."""
    queue = place.queue()
    queue.put([Outgoing(str(n).encode()) for n in range(15)])
    seen: set[bytes] = set()
    while len(seen) < 15:
        batch = queue.receive(limit=4, wait_s=1)
        assert len(batch) <= 4
        seen |= {message.body for message in batch}


def test_one_receive_goes_beyond_the_batch_of_the_service(place: Place) -> None:
    """One receive can return more than a single call of the service brings."""
    queue = place.queue()
    queue.put([Outgoing(str(n).encode()) for n in range(40)])
    sizes: list[int] = []
    while sum(sizes) < 40:
        sizes.append(len(queue.receive(limit=40, wait_s=1)))
    assert max(sizes) > 10


def test_the_first_attempt_is_one(place: Place) -> None:
    """A message that nobody has had is at its attempt 1."""
    queue = place.queue()
    queue.put([Outgoing(b"x")])
    assert one(queue).attempt == 1


def test_another_opening_receives(place: Place) -> None:
    """Sender and receiver share nothing but the URL."""
    queue = place.queue()
    queue.put([Outgoing(b"x")])
    assert one(place.again(queue)).body == b"x"


def test_two_consumers_never_hold_one_message(place: Place) -> None:
    """What is in one consumer's hand is in no other's, and nothing is left out.

    SQS says of its standard queues that a copy may come now and then, and its emulator is no
    better.
    """
    first = place.queue()
    second = place.again(first)
    first.put([Outgoing(str(n).encode()) for n in range(40)])
    left = set(range(40))

    def drain(queue: Queue) -> list[Message]:
        mine: list[Message] = []
        while left:
            batch = queue.receive(limit=3, wait_s=1)
            mine += batch
            left.difference_update(int(message.body) for message in batch)
        return mine

    with ThreadPoolExecutor() as pool:
        hands = [message for mine in pool.map(drain, (first, second)) for message in mine]
    numbers = sorted(int(message.body) for message in hands)
    assert sorted(set(numbers)) == list(range(40))
    assert len(numbers) <= 40 + (0 if "exclusive" in place.harness.abilities else 2)


def test_an_idle_consumer_keeps_nothing_back(place: Place) -> None:
    """What one consumer fetched ahead and does not ask for comes to those who ask."""
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
    """A wrong name is said at once, by the name, and not taken for an outage."""
    place.need("missing")
    queue = place.open(place.harness.missing())
    with pytest.raises(Refused, match="missing"):
        queue.receive()
    with pytest.raises(Refused, match="missing"):
        queue.send({"prompt": "x"})
