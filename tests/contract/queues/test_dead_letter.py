"""Dead letters: a rejected message is moved away, with its reason, and blocks no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from renderfarm.queues import Outgoing
from tests.contract.queues.harness import one, take

if TYPE_CHECKING:
    from tests.contract.queues.harness import Place


def test_a_rejected_message_keeps_its_reason(place: Place) -> None:
    """A dead letter has the original body and attributes, and the reason."""
    queue = place.queue()
    queue.put([Outgoing("schlecht 🐻".encode(), attributes={"traceparent": "00-1-2-01"})])
    assert queue.reject([one(queue)], "prompt is required — näh") == []
    (dead,) = place.dead(queue, 1)
    assert (dead.body, dead.reason) == ("schlecht 🐻".encode(), "prompt is required — näh")
    assert dead.attributes["traceparent"] == "00-1-2-01"


def test_a_rejected_message_does_not_come_again(place: Place) -> None:
    """After a reject the message is only in the dead-letter queue."""
    queue = place.queue(short=True)
    queue.put([Outgoing(b"x")])
    queue.reject([one(queue)], "bad")
    assert queue.receive(wait_s=queue.lease_s * 1.5) == []


def test_a_long_reason_is_cut_not_refused(place: Place) -> None:
    """A reason that is too long for the service does not stop the reject."""
    queue = place.queue()
    queue.put([Outgoing(b"x")])
    queue.reject([one(queue)], "ä" * 10_000)
    (dead,) = place.dead(queue, 1)
    assert dead.reason is not None
    assert dead.reason.startswith("ä" * 200)


def test_fifty_bad_messages_are_fifty_dead(place: Place) -> None:
    """A large batch is rejected whole, each message with the same reason."""
    queue = place.queue()
    bodies = [f"bad {n}".encode() for n in range(50)]
    queue.put([Outgoing(body) for body in bodies])
    assert queue.reject(take(queue, 50), "not JSON") == []
    dead = place.dead(queue, 50)
    assert sorted(each.body for each in dead) == sorted(bodies)
    assert {each.reason for each in dead} == {"not JSON"}


def test_a_message_delivered_too_often_is_dead(place: Place) -> None:
    """After `max_deliveries` the service itself moves a message to the dead letters."""
    place.need("counts")
    queue = place.queue(max_deliveries=5)
    queue.put([Outgoing(b"poison")])
    for _ in range(5):
        message = one(queue)
        queue.retry([message])
    assert message.attempt == 5
    assert queue.receive(wait_s=1) == []
    (dead,) = place.dead(queue, 1)
    assert dead.body == b"poison"


def test_poison_blocks_no_other(place: Place) -> None:
    """A message that always fails does not stop the others."""
    queue = place.queue()
    queue.put([Outgoing(b"good 1"), Outgoing(b"poison"), Outgoing(b"good 2")])
    good: set[bytes] = set()
    while len(good) < 2:
        for message in queue.receive(wait_s=1):
            if message.body == b"poison":
                queue.retry([message])
            else:
                queue.ack([message])
                good.add(message.body)
    assert good == {b"good 1", b"good 2"}
