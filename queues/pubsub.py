"""`pubsub://PROJECT/TOPIC?subscription=NAME`: Google Pub/Sub, on google-cloud-pubsub.

Google's own variables hold the credentials (`GOOGLE_APPLICATION_CREDENTIALS`),
`PUBSUB_EMULATOR_HOST` names an emulator. The subscription's dead-letter policy sets how often a
message is delivered, and its dead-letter topic. Without that policy Pub/Sub counts no deliveries.
"""

from __future__ import annotations

import math
import os
import threading
import time
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import grpc
from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError, TransportError
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import PubsubMessage

from renderfarm.queues.base import REASON, Message, Outgoing, Queue, refuse
from renderfarm.queues.errors import BadAddress, Refused, Unavailable
from renderfarm.queues.pubsub_stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.pubsub_v1.types import ReceivedMessage

    from renderfarm.queues.address import Address

LIMIT_BYTES = 10_000_000
BATCH = 1000
MAX_REASON_BYTES = 1024
MAX_DELAY_S = 600
CALL_TIMEOUT_S = 5.0
OPENING_WAIT_S = 1.0
"""How long a receive waits for a stream that was just opened, even with `wait_s=0`."""
CONNECTION_ERRORS = (
    exceptions.ServerError,
    exceptions.TooManyRequests,
    exceptions.RetryError,
    exceptions.Aborted,
    exceptions.Cancelled,
    exceptions.Unknown,
    TransportError,
)
RETRY = Retry(
    if_exception_type(exceptions.ServiceUnavailable, exceptions.Aborted),
    initial=0.1,
    maximum=1.0,
    timeout=CALL_TIMEOUT_S,
)


class PubSubQueue(Queue):
    """A topic to send to, and a `subscription` to receive from if it is given."""

    def __init__(
        self, project: str, topic: str, subscription: str | None, *, lease_s: float, ahead: int
    ) -> None:
        self.lease_s = lease_s
        self._topic = f"projects/{project}/topics/{topic}"
        self._name = subscription
        self._path = f"projects/{project}/subscriptions/{subscription}"
        self._ahead = ahead
        self._lock = threading.Lock()
        self._stream: Stream | None = None

    def put(self, messages: Sequence[Outgoing]) -> None:
        """Publish in batches; the group is the ordering key."""
        large = {each.id for each in messages if len(each.body) > LIMIT_BYTES}
        empty = {each.id for each in messages if not each.body and not each.attributes}
        for batch in _batches([each for each in messages if each.id not in large | empty]):
            self._publish(self._topic, batch)
        refuse(
            dict.fromkeys(large, f"larger than {LIMIT_BYTES} bytes")
            | dict.fromkeys(empty, "Pub/Sub cannot carry an empty message")
        )

    def _publish(self, topic: str, batch: Sequence[Outgoing]) -> None:
        raw = [
            PubsubMessage(
                data=each.body, attributes=dict(each.attributes), ordering_key=each.group or ""
            )
            for each in batch
        ]
        with _errors(topic):
            self._publisher.publish(topic=topic, messages=raw, retry=RETRY, timeout=CALL_TIMEOUT_S)

    def receive(self, limit: int = 10, wait_s: float = 0.0) -> list[Message]:
        """Return prefetched messages; open the stream first, and again after it has ended."""
        deadline = time.monotonic() + wait_s
        while True:
            stream, just_opened = self._open_stream()
            remaining_s = max(OPENING_WAIT_S if just_opened else 0.0, deadline - time.monotonic())
            if fetched := stream.take(limit, remaining_s):
                return self._hand_out(fetched)
            if stream.error is not None and (
                just_opened or not isinstance(stream.error, CONNECTION_ERRORS)
            ):
                with _errors(self._path):
                    raise stream.error
            if not stream.ended or (just_opened and stream.error is None):
                return []

    def _open_stream(self) -> tuple[Stream, bool]:
        """Return the stream, and whether it was opened just now: the service sometimes ends it."""
        if self._name is None:
            raise BadAddress("receiving from pubsub:// needs ?subscription=NAME")
        with self._lock, _errors(self._path):
            if self._stream is not None and not self._stream.ended:
                return self._stream, False
            self._stream = Stream(
                self._subscriber, self._path, math.ceil(self.lease_s), self._ahead
            )
            return self._stream, True

    def _hand_out(self, fetched: Sequence[tuple[float, ReceivedMessage]]) -> list[Message]:
        """Give messages of the buffer a full lease, and drop those that waited too long."""
        usable = [(age, raw) for age, raw in fetched if age < self.lease_s * 0.9]
        messages = [_message(raw) for _, raw in usable]
        waited = (age > self.lease_s / 4 for age, _ in usable)
        self.extend([each for each, old in zip(messages, waited, strict=True) if old])
        return messages

    def ack(self, messages: Sequence[Message]) -> list[Message]:
        """Acknowledge; Pub/Sub does not report unknown ids."""
        for start in range(0, len(messages), BATCH):
            ids = [each.receipt for each in messages[start : start + BATCH]]
            with _errors(self._path):
                self._subscriber.acknowledge(
                    subscription=self._path, ack_ids=ids, retry=RETRY, timeout=CALL_TIMEOUT_S
                )
        return []

    def retry(self, messages: Sequence[Message], delay_s: float = 0.0) -> list[Message]:
        """Let the deadline end after `delay_s`, at most ten minutes."""
        return self._set_ack_deadline(messages, min(MAX_DELAY_S, math.ceil(delay_s)))

    def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Let the deadline end after another `lease_s`."""
        return self._set_ack_deadline(messages, math.ceil(self.lease_s))

    def _set_ack_deadline(self, messages: Sequence[Message], seconds: int) -> list[Message]:
        for start in range(0, len(messages), BATCH):
            ids = [each.receipt for each in messages[start : start + BATCH]]
            with _errors(self._path):
                self._subscriber.modify_ack_deadline(
                    subscription=self._path,
                    ack_ids=ids,
                    ack_deadline_seconds=seconds,
                    retry=RETRY,
                    timeout=CALL_TIMEOUT_S,
                )
        return []

    def reject(self, messages: Sequence[Message], reason: str) -> list[Message]:
        """Publish copies to the dead-letter topic with the reason, then acknowledge.

        A crash between the two leaves a message in both topics, and never loses it.
        """
        short = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        copies = [
            Outgoing(each.body, each.id, {**each.attributes, REASON: short}) for each in messages
        ]
        for batch in _batches(copies):
            self._publish(self._dead_letter, batch)
        return self.ack(messages)

    @cached_property
    def _dead_letter(self) -> str:
        with _errors(self._path):
            found = self._subscriber.get_subscription(
                subscription=self._path, retry=RETRY, timeout=CALL_TIMEOUT_S
            )
        topic = found.dead_letter_policy.dead_letter_topic
        if not topic:
            raise Refused(f"{self._path} has no dead-letter topic: give it a dead-letter policy")
        return str(topic)

    @cached_property
    def _publisher(self) -> PublisherClient:
        if channel := _emulator():
            return PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        return PublisherClient()

    @cached_property
    def _subscriber(self) -> SubscriberClient:
        if channel := _emulator():
            return SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        return SubscriberClient()

    def close(self) -> None:
        """End the stream, which hands back prefetched messages; close the channels."""
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        for client in ("_publisher", "_subscriber"):
            if opened := self.__dict__.pop(client, None):
                opened.transport.close()


def _batches(messages: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Split into requests: of one ordering key each, within the limits of a request."""
    keys: dict[str | None, list[Outgoing]] = {}
    for message in messages:
        keys.setdefault(message.group, []).append(message)
    for ordered in keys.values():
        batch: list[Outgoing] = []
        total = 0
        for message in ordered:
            size = len(message.body)
            if batch and (len(batch) == BATCH or total + size > LIMIT_BYTES * 0.9):
                yield batch
                batch, total = [], 0
            batch.append(message)
            total += size
        yield batch


def _message(raw: ReceivedMessage) -> Message:
    return Message(
        body=raw.message.data,
        id=raw.message.message_id,
        attempt=raw.delivery_attempt or 1,
        attributes=dict(raw.message.attributes),
        receipt=raw.ack_id,
    )


def _emulator() -> grpc.Channel | None:
    host = os.environ.get("PUBSUB_EMULATOR_HOST")
    if not host:
        return None
    limit = ("grpc.max_receive_message_length", 2 * LIMIT_BYTES)
    return grpc.insecure_channel(
        host,
        options=[
            limit,
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ],
    )


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except CONNECTION_ERRORS as error:
        raise Unavailable(f"Pub/Sub is unavailable for {name}: {error}") from error
    except (exceptions.GoogleAPIError, GoogleAuthError) as error:
        raise Refused(f"Pub/Sub refused {name}: {error}") from error


def open_address(address: Address) -> PubSubQueue:
    """Open the queue at `pubsub://PROJECT/TOPIC?subscription=NAME&lease_s=30&ahead=1000`."""
    address.allow("subscription", "lease_s", "ahead")
    if not address.path:
        raise BadAddress("pubsub:// needs a project and a topic: pubsub://PROJECT/TOPIC")
    return PubSubQueue(
        address.host,
        address.path,
        address.options.get("subscription"),
        lease_s=address.lease_s,
        ahead=int(address.number("ahead", 1000, 1)),
    )
