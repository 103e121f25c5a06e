"""Leases: a received message is its receiver's for a while, then it is delivered again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from renderfarm.queues import Outgoing
from tests.contract.queues.harness import one, take

if TYPE_CHECKING:
    from tests.contract.queues.harness import Place


def test_a_leased_message_reaches_no_other_consumer(place: Place) -> None:
    """While a lease runs, no other consumer receives the message."""
    queue = place.queue()
    queue.put([Outgoing(b"x")])
    one(queue)
    assert place.again(queue).receive(wait_s=1) == []
    assert queue.receive(wait_s=0.5) == []


def test_a_lease_that_ran_out_gives_the_message_to_another(place: Place) -> None:
    """A message that is not settled is delivered again, to another consumer, unchanged."""
    queue = place.queue(short=True)
    queue.put([Outgoing(b"x", attributes={"a": "b"})])
    first = one(queue)
    second = one(place.again(queue))
    assert (second.body, second.id, second.attributes) == (first.body, first.id, {"a": "b"})


def test_a_second_delivery_is_attempt_two(place: Place) -> None:
    """An expired lease costs one attempt."""
    place.need("counts")
    queue = place.queue(short=True)
    queue.put([Outgoing(b"x")])
    one(queue)
    assert one(queue).attempt == 2


def test_a_vanished_consumer_loses_nothing(place: Place) -> None:
    """The messages of a consumer that ended are delivered to another."""
    queue = place.queue(short=True)
    queue.put([Outgoing(str(n).encode()) for n in range(5)])
    gone = place.again(queue)
    take(gone, 2)
    gone.close()
    assert {message.body for message in take(queue, 5)} == {b"0", b"1", b"2", b"3", b"4"}


def test_extend_keeps_messages_leased(place: Place) -> None:
    """A batch that is extended in time stays leased beyond its first lease."""
    queue = place.queue(short=True)
    other = place.again(queue)
    queue.put([Outgoing(b"a"), Outgoing(b"b")])
    messages = take(queue, 2)
    for _ in range(4):
        assert other.receive(wait_s=queue.lease_s * 0.4) == []
        assert queue.extend(messages) == []
    assert queue.ack(messages) == []


def test_an_extended_lease_runs_out_too(place: Place) -> None:
    """An extension lasts one lease."""
    queue = place.queue(short=True)
    queue.put([Outgoing(b"x")])
    queue.extend([one(queue)])
    assert one(place.again(queue)).body == b"x"


def test_a_lost_message_cannot_be_settled(place: Place) -> None:
    """Settling a message that another consumer has by now changes nothing, and returns it."""
    place.need("knows_lost")
    queue = place.queue(short=True)
    queue.put([Outgoing(b"x")])
    stale = one(queue)
    other = place.again(queue)
    fresh = one(other)
    for verb in (queue.ack, queue.retry, queue.extend):
        assert verb([stale]) == [stale]
    assert queue.reject([stale], "too late") == [stale]
    assert other.ack([fresh]) == []


def test_one_lost_message_does_not_spoil_the_batch(place: Place) -> None:
    """In a batch, lost messages are returned and the others are settled."""
    place.need("knows_lost")
    queue = place.queue()
    queue.put([Outgoing(b"a"), Outgoing(b"b"), Outgoing(b"c")])
    first, second, third = take(queue, 3)
    assert queue.retry([second], delay_s=600) == []
    assert queue.ack([first, second, third]) == [second]
