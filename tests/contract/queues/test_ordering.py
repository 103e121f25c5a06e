"""Ordering: messages of one group, if the service keeps their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from renderfarm.queues import Outgoing
from tests.contract.queues.harness import one, take

if TYPE_CHECKING:
    from tests.contract.queues.harness import Place


@pytest.fixture(autouse=True)
def _ordered(place: Place) -> None:
    place.need("groups")


def test_a_group_comes_in_order(place: Place) -> None:
    """Messages of one group are delivered in the order in which they were sent."""
    queue = place.queue(ordered=True)
    queue.put([Outgoing(str(n).encode(), group="g") for n in range(20)])
    bodies: list[int] = []
    while len(bodies) < 20:
        (message,) = take(queue, 1)
        bodies.append(int(message.body))
        queue.ack([message])
    assert bodies == list(range(20))


def test_groups_do_not_wait_for_each_other(place: Place) -> None:
    """A leased message does not delay messages of another group."""
    queue = place.queue(ordered=True)
    queue.put([Outgoing(b"a", group="one")])
    one(queue)
    queue.put([Outgoing(b"b", group="two")])
    assert one(queue).body == b"b"


def test_a_group_waits_for_its_first(place: Place) -> None:
    """While the first message of a group is leased, no other consumer receives its second."""
    place.need("group_waits")
    queue = place.queue(ordered=True)
    queue.put([Outgoing(b"1", group="g"), Outgoing(b"2", group="g")])
    (first,) = queue.receive(limit=1, wait_s=5)
    other = place.again(queue)
    assert other.receive(wait_s=1) == []
    queue.ack([first])
    assert one(other).body == b"2"


def test_a_retried_message_stays_first(place: Place) -> None:
    """A message that is handed back is delivered before the later ones of its group."""
    queue = place.queue(ordered=True)
    queue.put([Outgoing(b"1", group="g")])
    queue.retry([one(queue)])
    queue.put([Outgoing(b"2", group="g")])
    first = one(queue)
    assert first.body == b"1"
    queue.ack([first])
    assert one(queue).body == b"2"


def test_without_a_group_an_ordered_queue_still_serves(place: Place) -> None:
    """Messages without a group also arrive on an ordered queue."""
    queue = place.queue(ordered=True)
    queue.send_many([{"prompt": "a"}, {"prompt": "b"}])
    assert len(take(queue, 2)) == 2
