"""Settling: ack and retry."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from renderfarm.queues import Outgoing
from tests.contract.queues.harness import one, take

if TYPE_CHECKING:
    from tests.contract.queues.harness import Place


def test_acked_messages_are_gone(place: Place) -> None:
    """An acknowledged message is not delivered again after its lease."""
    queue = place.queue(short=True)
    queue.put([Outgoing(b"x"), Outgoing(b"y")])
    assert queue.ack(take(queue, 2)) == []
    assert queue.receive(wait_s=queue.lease_s * 1.5) == []


def test_a_large_batch_is_acked(place: Place) -> None:
    """One call can settle more messages than one call of the service."""
    queue = place.queue(short=True)
    queue.put([Outgoing(str(n).encode()) for n in range(25)])
    assert queue.ack(take(queue, 25)) == []
    assert queue.receive(wait_s=queue.lease_s * 1.5) == []


def test_acking_again_does_no_harm(place: Place) -> None:
    """A second ack of the same message neither fails nor affects another message."""
    queue = place.queue()
    queue.put([Outgoing(b"x"), Outgoing(b"y")])
    first, second = take(queue, 2)
    queue.ack([first])
    queue.ack([first, second])
    assert queue.receive(wait_s=0.5) == []


def test_settling_nothing_is_no_fault(place: Place) -> None:
    """Every verb accepts an empty batch."""
    queue = place.queue()
    assert queue.ack([]) == queue.retry([]) == queue.extend([]) == []
    assert queue.reject([], "no reason") == []


def test_another_thread_may_settle(place: Place) -> None:
    """One thread can extend and acknowledge the messages that another thread received."""
    queue = place.queue(short=True)
    queue.put([Outgoing(b"x")])
    message = one(queue)
    with ThreadPoolExecutor() as pool:
        assert pool.submit(queue.extend, [message]).result() == []
        assert pool.submit(queue.ack, [message]).result() == []
    assert queue.receive(wait_s=queue.lease_s * 1.5) == []


def test_retry_comes_at_once(place: Place) -> None:
    """A message that is retried without a delay is delivered again long before its lease ends."""
    queue = place.queue()
    queue.put([Outgoing(b"a"), Outgoing(b"b")])
    assert queue.retry(take(queue, 2)) == []
    assert {message.body for message in take(queue, 2)} == {b"a", b"b"}


def test_retry_costs_an_attempt(place: Place) -> None:
    """Each retry raises the `attempt` of the next delivery, with or without a delay."""
    place.need("counts")
    queue = place.queue()
    queue.put([Outgoing(b"x")])
    attempts = []
    for delay_s in (0, 1, 0):
        message = one(queue)
        attempts.append(message.attempt)
        queue.retry([message], delay_s)
    assert [*attempts, one(queue).attempt] == [1, 2, 3, 4]


def test_retry_waits_for_its_delay(place: Place) -> None:
    """A delayed message is not delivered before its time, and then unchanged."""
    queue = place.queue()
    queue.put([Outgoing(b"x", attributes={"a": "b"})])
    message = one(queue)
    queue.retry([message], delay_s=6)
    assert queue.receive(wait_s=1) == []
    assert place.again(queue).receive(wait_s=0.5) == []
    again = one(queue)
    assert (again.body, again.id, again.attributes) == (b"x", message.id, {"a": "b"})


def test_a_delayed_message_blocks_no_other(place: Place) -> None:
    """While one message is delayed, later ones are delivered."""
    queue = place.queue()
    queue.put([Outgoing(b"slow")])
    queue.retry([one(queue)], delay_s=600)
    queue.put([Outgoing(b"next")])
    assert one(queue).body == b"next"


def test_a_delayed_message_is_acked_for_good(place: Place) -> None:
    """A message that was delivered again after a delay can be settled like any other."""
    queue = place.queue(short=True)
    queue.put([Outgoing(b"x")])
    queue.retry([one(queue)], delay_s=1)
    assert queue.ack([one(queue)]) == []
    assert queue.receive(wait_s=queue.lease_s * 1.5) == []
