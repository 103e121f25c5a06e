"""Sending: each message arrives whole, with its attributes and the returned id."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from renderfarm.queues import NotSent, Outgoing
from tests.contract.queues.harness import one, take

if TYPE_CHECKING:
    from tests.contract.queues.harness import Place

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"7", id="one-byte"),
        pytest.param(b' {"a" : 1}\n\t', id="white-space"),
        pytest.param(b"x" * 250_000, id="250-kB"),
        pytest.param("שלום 👩‍👩‍👧 e\u0301 \u2028 \U0001f9ff".encode(), id="unicode"),
    ],
)
def test_a_body_arrives_byte_for_byte(place: Place, body: bytes) -> None:
    """A body arrives unchanged: not trimmed, not escaped, not normalised."""
    queue = place.queue()
    queue.put([Outgoing(body)])
    assert one(queue).body == body


@pytest.mark.parametrize("body", [b"", b"\xff\xfe\x00 not UTF-8"], ids=["empty", "not-utf8"])
def test_an_odd_body_arrives_or_is_refused(place: Place, body: bytes) -> None:
    """A body that a service cannot carry is refused by its id, never changed."""
    queue = place.queue()
    odd = Outgoing(body)
    refused: set[str] = set()
    try:
        queue.put([odd])
    except NotSent as error:
        refused = set(error.refused)
    arrived = [message.body for message in queue.receive(wait_s=5)]
    assert (arrived, refused) in [([body], set()), ([], {odd.id})]


def test_many_arrive(place: Place) -> None:
    """More messages than a service accepts in one call all arrive."""
    queue = place.queue()
    bodies = {f"body {n}".encode() for n in range(45)}
    queue.put([Outgoing(body) for body in bodies])
    assert {message.body for message in take(queue, 45)} == bodies


def test_attributes_arrive(place: Place) -> None:
    """Attributes, trace context for example, arrive with the body."""
    queue = place.queue()
    sent = {"traceparent": TRACE, "tenant": "Bär 🐻"}
    queue.put([Outgoing(b"x", attributes=sent)])
    assert one(queue).attributes == sent


def test_no_attributes_arrive_as_none(place: Place) -> None:
    """A message without attributes arrives without attributes."""
    queue = place.queue()
    queue.put([Outgoing(b"x")])
    assert one(queue).attributes == {}


def test_send_returns_the_id_inside_the_body(place: Place) -> None:
    """`send` returns the id of the job in the farm."""
    queue = place.queue()
    job_id = queue.send({"prompt": "a red circle"}, attributes={"traceparent": TRACE})
    message = one(queue)
    assert json.loads(message.body) == {"prompt": "a red circle", "id": job_id}
    assert message.attributes == {"traceparent": TRACE}


def test_send_many_returns_ids_in_order(place: Place) -> None:
    """`send_many` returns the ids in the order of the requests."""
    queue = place.queue()
    ids = queue.send_many({"prompt": f"{n} stars"} for n in range(12))
    arrived = [json.loads(message.body) for message in take(queue, 12)]
    assert {each["id"]: each["prompt"] for each in arrived} == {
        job_id: f"{n} stars" for n, job_id in enumerate(ids)
    }


def test_one_bad_message_of_a_batch_is_named(place: Place) -> None:
    """A message that is too large is refused by its id; the rest of its batch arrives."""
    queue = place.queue()
    large = Outgoing(b"x" * (place.harness.limit_bytes + 1))
    with pytest.raises(NotSent) as caught:
        queue.put([Outgoing(b"before"), large, Outgoing(b"after")])
    assert set(caught.value.refused) == {large.id}
    assert {message.body for message in take(queue, 2)} == {b"before", b"after"}


def test_nothing_to_send_is_no_fault(place: Place) -> None:
    """An empty batch changes nothing and raises nothing."""
    queue = place.queue()
    queue.put([])
    assert queue.send_many([]) == []
    assert queue.receive() == []


def test_the_same_id_twice_arrives_once(place: Place) -> None:
    """A queue with deduplication removes messages with the same job id."""
    place.need("dedup")
    queue = place.queue(ordered=True)
    job_id = queue.send({"prompt": "x"})
    assert queue.send({"prompt": "x", "id": job_id}) == job_id
    queue.send({"prompt": "last"})
    assert len(take(queue, 2)) == 2
    assert queue.receive(wait_s=1) == []
