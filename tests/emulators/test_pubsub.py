"""The Pub/Sub emulator, used by Google's own clients like the real service."""

from __future__ import annotations

import queue
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core import exceptions
from google.api_core.retry import Retry
from google.cloud import pubsub_v1
from google.pubsub_v1 import types

from tests.emulators.process import EmulatorProcess
from tests.emulators.pubsub_subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

TOPIC = "projects/test/topics/jobs"
NAME = "projects/test/subscriptions/farm"
DEAD = "projects/test/topics/dead"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorProcess]:
    """A server, whose address the SDK finds in the environment."""
    server = EmulatorProcess("tests.emulators.pubsub", "--min-deadline", "1")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{server.port}")
    yield server
    server.kill()


@pytest.fixture
def publisher(emulator: EmulatorProcess) -> Iterator[pubsub_v1.PublisherClient]:
    """Google's publisher and a topic."""
    del emulator
    options = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    client = pubsub_v1.PublisherClient(publisher_options=options)
    client.create_topic(name=TOPIC)
    yield client
    client.stop()
    client.transport.close()


@pytest.fixture
def subscriber(publisher: pubsub_v1.PublisherClient) -> Iterator[pubsub_v1.SubscriberClient]:
    """Google's subscriber."""
    del publisher
    with pubsub_v1.SubscriberClient() as client:
        yield client


def test_streaming_pull_delivers_and_acks(
    publisher: pubsub_v1.PublisherClient, subscriber: pubsub_v1.SubscriberClient
) -> None:
    """The SDK's subscriber receives published messages; acknowledged ones are removed."""
    subscriber.create_subscription(name=NAME, topic=TOPIC)
    arrived: queue.Queue[tuple[bytes, dict[str, str]]] = queue.Queue()

    def callback(message: Any) -> None:
        arrived.put((message.data, dict(message.attributes)))
        message.ack()

    pulling = subscriber.subscribe(NAME, callback)
    publisher.publish(TOPIC, b"one", a="b").result(timeout=30)
    assert arrived.get(timeout=30) == (b"one", {"a": "b"})
    stop(pulling)
    pulled = subscriber.pull(subscription=NAME, max_messages=1, return_immediately=True)
    assert list(pulled.received_messages) == []


def stop(pulling: Future[Any]) -> None:
    """End a streaming pull and wait for its threads."""
    pulling.cancel()
    with suppress(Exception):
        pulling.result(timeout=30)


def test_nacked_messages_come_again_and_die(
    publisher: pubsub_v1.PublisherClient, subscriber: pubsub_v1.SubscriberClient
) -> None:
    """Each nack counts as an attempt; after five the message goes to the dead-letter topic."""
    publisher.create_topic(name=DEAD)
    subscriber.create_subscription(name=f"{NAME}-dead", topic=DEAD)
    policy = types.DeadLetterPolicy(dead_letter_topic=DEAD, max_delivery_attempts=5)
    subscriber.create_subscription(
        request=types.Subscription(name=NAME, topic=TOPIC, dead_letter_policy=policy)
    )
    publisher.publish(TOPIC, b"poison").result(timeout=30)
    attempts: queue.Queue[int] = queue.Queue()

    def callback(message: Any) -> None:
        attempts.put(message.delivery_attempt)
        message.nack()

    pulling = subscriber.subscribe(NAME, callback)
    assert [attempts.get(timeout=30) for _ in range(5)] == [1, 2, 3, 4, 5]
    dead = pull_one(subscriber, f"{NAME}-dead")
    stop(pulling)
    assert dead.message.data == b"poison"
    assert dead.message.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"


def pull_one(subscriber: pubsub_v1.SubscriberClient, name: str) -> types.ReceivedMessage:
    """Pull until there is a message."""
    while True:
        pulled = subscriber.pull(subscription=name, max_messages=1).received_messages
        if pulled:
            return pulled[0]


def test_a_deadline_that_passes_brings_the_message_again(
    publisher: pubsub_v1.PublisherClient, subscriber: pubsub_v1.SubscriberClient
) -> None:
    """A unary pull leases a message exactly for the subscription's deadline."""
    subscriber.create_subscription(
        request=types.Subscription(name=NAME, topic=TOPIC, ack_deadline_seconds=1)
    )
    publisher.publish(TOPIC, b"x").result(timeout=30)
    first = pull_one(subscriber, NAME)
    second = pull_one(subscriber, NAME)
    assert (second.message.data, second.ack_id != first.ack_id) == (b"x", True)


def test_ordering_keys_keep_their_order(
    publisher: pubsub_v1.PublisherClient, subscriber: pubsub_v1.SubscriberClient
) -> None:
    """Messages of one key reach the SDK's callback in the order in which they were published."""
    subscriber.create_subscription(
        request=types.Subscription(name=NAME, topic=TOPIC, enable_message_ordering=True)
    )
    for number in range(10):
        publisher.publish(TOPIC, str(number).encode(), ordering_key="k")
    arrived: queue.Queue[int] = queue.Queue()

    def callback(message: Any) -> None:
        arrived.put(int(message.data))
        message.ack()

    pulling = subscriber.subscribe(NAME, callback)
    assert [arrived.get(timeout=30) for _ in range(10)] == list(range(10))
    stop(pulling)


@pytest.mark.parametrize("size", [0, 10_000_001])
def test_bad_messages_are_refused(publisher: pubsub_v1.PublisherClient, size: int) -> None:
    """An empty message and one above 10 MB are invalid arguments, like in the service."""
    with pytest.raises(
        (exceptions.InvalidArgument, pubsub_v1.publisher.exceptions.MessageTooLargeError)
    ):
        publisher.publish(TOPIC, b"x" * size, retry=Retry(timeout=5)).result(timeout=30)


def test_what_is_not_there_is_not_found(subscriber: pubsub_v1.SubscriberClient) -> None:
    """An unknown name is NOT_FOUND, and an existing one is ALREADY_EXISTS."""
    with pytest.raises(exceptions.NotFound):
        subscriber.pull(subscription=NAME, max_messages=1)
    subscriber.create_subscription(name=NAME, topic=TOPIC)
    with pytest.raises(exceptions.AlreadyExists):
        subscriber.create_subscription(name=NAME, topic=TOPIC)


def nowhere(topic: str, message: types.PubsubMessage) -> None:
    """Fail: tests of a subscription alone make no dead letters."""
    raise AssertionError((topic, message))


def test_backoff_doubles() -> None:
    """With a retry policy the delay of a nacked message doubles each time."""
    policy = types.RetryPolicy(minimum_backoff={"seconds": 10}, maximum_backoff={"seconds": 25})
    subscription = Subscription(types.Subscription(name=NAME, retry_policy=policy), nowhere)
    subscription.add(types.PubsubMessage(data=b"x"), now=0.0)
    now, waits = 0.0, []
    for _ in range(3):
        (taken,) = subscription.take(1, 60, "me", now)
        subscription.modify([taken.ack_id], 0, now)
        waits.append(subscription.next_due_at() - now)
        now = subscription.next_due_at()
    assert waits == [10, 20, 25]


def test_a_stale_ack_does_nothing() -> None:
    """An id whose deadline has passed acknowledges no message."""
    subscription = Subscription(types.Subscription(name=NAME), nowhere)
    subscription.add(types.PubsubMessage(data=b"x"), now=0.0)
    (taken,) = subscription.take(1, 10, "me", 0.0)
    subscription.acknowledge([taken.ack_id], now=10.0)
    assert len(subscription.take(1, 10, "other", 10.0)) == 1
