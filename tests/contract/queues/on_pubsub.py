"""Google Pub/Sub in the conformance suite: Google's own SDK with our emulator."""

from __future__ import annotations

from contextlib import closing
from itertools import count
from urllib.parse import urlsplit

import pytest
from google.cloud import pubsub_v1
from google.pubsub_v1 import types

from renderfarm.queues.base import REASON
from renderfarm.queues.pubsub import LIMIT_BYTES
from tests.contract.queues.harness import Dead
from tests.emulators.process import EmulatorProcess

NUMBERS = count()
PROJECT = "projects/test"


class PubSubHarness:
    """A killed emulator loses its topics, so they are made again at each restart."""

    abilities = frozenset({"exclusive", "groups", "counts", "outage", "missing"})
    short_lease_s = 2.0  # the service's own minimum is ten seconds; the emulator accepts less
    limit_bytes = LIMIT_BYTES

    def __init__(self) -> None:
        self._server = EmulatorProcess("tests.emulators.pubsub", "--min-deadline", "1")
        self._environment = pytest.MonkeyPatch()
        self._environment.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{self._server.port}")
        self._made: list[types.Subscription] = []
        self._dead: dict[str, list[Dead]] = {}

    def make(self, *, lease_s: float, max_deliveries: int, ordered: bool) -> str:
        """Make a topic and a dead-letter topic, each with a subscription."""
        name = f"job{next(NUMBERS)}"
        subscription = types.Subscription(
            name=f"{PROJECT}/subscriptions/{name}",
            topic=f"{PROJECT}/topics/{name}",
            enable_message_ordering=ordered,
            dead_letter_policy=types.DeadLetterPolicy(
                dead_letter_topic=f"{PROJECT}/topics/dead-{name}",
                max_delivery_attempts=max_deliveries,
            ),
        )
        self._make(subscription)
        self._made.append(subscription)
        return f"pubsub://test/{name}?subscription={name}&lease_s={lease_s:g}"

    def _make(self, subscription: types.Subscription) -> None:
        dead = subscription.dead_letter_policy.dead_letter_topic
        publisher = pubsub_v1.PublisherClient()
        with closing(publisher.transport), pubsub_v1.SubscriberClient() as subscriber:
            publisher.create_topic(name=subscription.topic)
            publisher.create_topic(name=dead)
            subscriber.create_subscription(request=subscription)
            subscriber.create_subscription(name=dead.replace("topics", "subscriptions"), topic=dead)

    def dead(self, url: str) -> list[Dead]:
        """Pull the messages that came to the dead-letter topic since the last call."""
        found = self._dead.setdefault(url, [])
        name = f"{PROJECT}/subscriptions/dead-{urlsplit(url).path.strip('/')}"
        with pubsub_v1.SubscriberClient() as client:
            while pulled := client.pull(
                subscription=name, max_messages=100, return_immediately=True
            ).received_messages:
                client.acknowledge(subscription=name, ack_ids=[each.ack_id for each in pulled])
                for each in pulled:
                    attributes = dict(each.message.attributes)
                    found.append(Dead(each.message.data, attributes.pop(REASON, None), attributes))
        return found

    def missing(self) -> str:
        """Return the URL of a topic and a subscription that were never made."""
        return "pubsub://test/missing?subscription=missing"

    def kill(self) -> None:
        """Kill the emulator."""
        self._server.kill()

    def restart(self) -> None:
        """Start the emulator, with empty topics of the same names."""
        self._server.start()
        for subscription in self._made:
            self._make(subscription)

    def stop(self) -> None:
        """Stop the emulator, and unset its address."""
        self._server.kill()
        self._environment.undo()
