"""The Service Bus emulator, used by Azure's own SDK like the real service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from azure.servicebus import (
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusReceivedMessage,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
    exceptions,
)

from tests.emulators.process import EmulatorProcess
from tests.emulators.servicebus_queue import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.servicebus import ServiceBusReceiver


@pytest.fixture
def client() -> Iterator[ServiceBusClient]:
    """Azure's client of a namespace whose queues begin with `short` (1 s locks) or `long`."""
    pytest.importorskip("proton", reason="needs python-qpid-proton, which is built from source")
    server = EmulatorProcess(
        "tests.emulators.servicebus", "--max-deliveries=2", "--lock=short=1", "--lock=long=60"
    )
    text = (
        f"Endpoint=sb://127.0.0.1:{server.port};SharedAccessKeyName=any;SharedAccessKey=any;"
        "UseDevelopmentEmulator=true"
    )
    with ServiceBusClient.from_connection_string(text, retry_total=0) as made:
        yield made
    server.kill()


def send(client: ServiceBusClient, queue: str, *messages: ServiceBusMessage) -> None:
    """Send messages in one batch."""
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(list(messages))


def receive(receiver: ServiceBusReceiver, count: int) -> list[ServiceBusReceivedMessage]:
    """Receive until there are `count` messages."""
    found: list[ServiceBusReceivedMessage] = []
    while len(found) < count:
        found += receiver.receive_messages(max_message_count=count - len(found), max_wait_time=5)
    return found


def test_a_batch_arrives_whole(client: ServiceBusClient) -> None:
    """Body, id and properties of each message of a batch arrive unchanged."""
    sent = [
        ServiceBusMessage(f"body {n}".encode(), message_id=f"m{n}", application_properties={"n": n})
        for n in range(3)
    ]
    send(client, "long", *sent)
    with client.get_queue_receiver("long") as receiver:
        found = receive(receiver, 3)
        assert [b"".join(each.body) for each in found] == [b"body 0", b"body 1", b"body 2"]
        assert [each.message_id for each in found] == ["m0", "m1", "m2"]
        assert [each.application_properties for each in found] == [{b"n": n} for n in range(3)]
        assert [each.delivery_count for each in found] == [0, 0, 0]


def test_a_lock_that_ends_brings_the_message_again(client: ServiceBusClient) -> None:
    """A message whose lock ended is delivered again, and its first receiver gets an error."""
    send(client, "short", ServiceBusMessage(b"x"))
    with client.get_queue_receiver("short") as receiver:
        (first,) = receive(receiver, 1)
        (second,) = receive(receiver, 1)
        assert second.delivery_count == 1
        for settle in (receiver.complete_message, receiver.renew_message_lock):
            with pytest.raises(exceptions.MessageLockLostError):
                settle(first)
        receiver.complete_message(second)


def test_a_renewed_lock_is_longer(client: ServiceBusClient) -> None:
    """Renewing a lock returns its new end."""
    send(client, "long", ServiceBusMessage(b"x"))
    with client.get_queue_receiver("long") as receiver:
        (message,) = receive(receiver, 1)
        before = message.locked_until_utc
        assert before is not None
        assert receiver.renew_message_lock(message) > before


def test_the_dead_letter_has_reason_and_description(client: ServiceBusClient) -> None:
    """A dead-lettered message and one that was abandoned too often are in the dead-letter queue."""
    send(client, "long", ServiceBusMessage(b"bad"), ServiceBusMessage(b"poison"))
    with client.get_queue_receiver("long") as receiver:
        bad, poison = receive(receiver, 2)
        receiver.dead_letter_message(bad, reason="schema", error_description="no prompt")
        receiver.abandon_message(poison)
        receiver.abandon_message(receive(receiver, 1)[0])
    with client.get_queue_receiver(
        "long",
        sub_queue=ServiceBusSubQueue.DEAD_LETTER,
        receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE,
    ) as dead:
        found = {
            b"".join(each.body): (each.dead_letter_reason, each.dead_letter_error_description)
            for each in receive(dead, 2)
        }
    assert found == {
        b"bad": ("schema", "no prompt"),
        b"poison": ("MaxDeliveryCountExceeded", "delivered 2 times"),
    }


def test_a_scheduled_message_waits(client: ServiceBusClient) -> None:
    """A scheduled message is not delivered before its time."""
    at = datetime.now(UTC) + timedelta(seconds=3)
    send(client, "long", ServiceBusMessage(b"later", scheduled_enqueue_time_utc=at))
    with client.get_queue_receiver("long") as receiver:
        assert b"".join(receive(receiver, 1)[0].body) == b"later"
        assert datetime.now(UTC) >= at


def test_what_is_not_there_is_refused(client: ServiceBusClient) -> None:
    """Opening a queue that the namespace does not have is refused."""
    with pytest.raises(exceptions.ServiceBusAuthenticationError):
        send(client, "missing", ServiceBusMessage(b"x"))


def test_a_release_costs_no_delivery() -> None:
    """A released message is delivered again with the same delivery count."""
    queue = Queue(lock_s=10, max_deliveries=2)
    queue.add(b"x", now=0)
    (first,) = filter(None, [queue.take(0)])
    assert queue.release(first.token, 1)
    again = queue.take(1)
    assert again is first
    assert again.failures == 0


def test_a_lock_ends_on_time() -> None:
    """A lock token is valid before the end of its lock, and not at the end."""
    queue = Queue(lock_s=10, max_deliveries=5)
    queue.add(b"x", now=0)
    (entry,) = filter(None, [queue.take(0)])
    token = entry.token
    assert queue.renew(token, 9) == 19
    assert queue.complete(token, 19) is False
    assert len(queue.entries) == 1
