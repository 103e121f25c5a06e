"""Emulator of Google Pub/Sub for tests: the gRPC service that Google's own clients call.

    python -m tests.emulators.pubsub --port 8085
    export PUBSUB_EMULATOR_HOST=127.0.0.1:8085

Topics and subscriptions are in memory. `pubsub_subscription` lists what is not emulated.
"""

from __future__ import annotations

import argparse
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1 import types

from tests.emulators.pubsub_subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_MESSAGE_BYTES = 10_000_000
MAX_DEADLINE_S = 600
MAX_STREAMS = 64
PULL_WAIT_S = 1.0


class PubSub:
    """The methods of Publisher and Subscriber. `changed` guards everything."""

    def __init__(self, min_deadline_s: int = 10) -> None:
        self.changed = threading.Condition()
        self.topics: dict[str, types.Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self._min_deadline_s = min_deadline_s
        self._numbers = count(1)

    def create_topic(self, request: types.Topic, context: Any) -> types.Topic:
        """Make a topic."""
        with self.changed:
            if request.name in self.topics:
                _abort(context, grpc.StatusCode.ALREADY_EXISTS, request.name)
            self.topics[request.name] = request
        return request

    def create_subscription(self, request: types.Subscription, context: Any) -> types.Subscription:
        """Make a subscription; it receives messages that are published from now on."""
        request.ack_deadline_seconds = request.ack_deadline_seconds or 10
        self._check_deadline(request.ack_deadline_seconds, context)
        with self.changed:
            if request.name in self.subscriptions:
                _abort(context, grpc.StatusCode.ALREADY_EXISTS, request.name)
            if request.topic not in self.topics:
                _abort(context, grpc.StatusCode.NOT_FOUND, request.topic)
            self.subscriptions[request.name] = Subscription(request, self._deliver)
        return request

    def get_subscription(
        self, request: types.GetSubscriptionRequest, context: Any
    ) -> types.Subscription:
        """Return the settings of a subscription."""
        with self.changed:
            return self._subscription(request.subscription, context).settings

    def delete_subscription(self, request: types.DeleteSubscriptionRequest, context: Any) -> Any:
        """Remove a subscription with its messages."""
        with self.changed:
            self._subscription(request.subscription, context)
            del self.subscriptions[request.subscription]
        return empty_pb2.Empty()

    def publish(self, request: types.PublishRequest, context: Any) -> types.PublishResponse:
        """Add messages to every subscription of the topic."""
        with self.changed:
            if request.topic not in self.topics:
                _abort(context, grpc.StatusCode.NOT_FOUND, f"no topic {request.topic}")
            for message in request.messages:
                _check_message(message, context)
            for message in request.messages:
                self._deliver(request.topic, message)
            self.changed.notify_all()
        return types.PublishResponse(message_ids=[each.message_id for each in request.messages])

    def _deliver(self, topic: str, message: types.PubsubMessage) -> None:
        message.message_id = str(next(self._numbers))
        message.publish_time = datetime.now(UTC)
        for subscription in self.subscriptions.values():
            if subscription.settings.topic == topic:
                subscription.add(message, time.monotonic())

    def pull(self, request: types.PullRequest, context: Any) -> types.PullResponse:
        """Deliver messages once, and wait up to `PULL_WAIT_S` for the first."""
        give_up_at = time.monotonic() + (0 if request.return_immediately else PULL_WAIT_S)
        with self.changed:
            subscription = self._subscription(request.subscription, context)
            deadline_s = subscription.settings.ack_deadline_seconds
            while True:
                now = time.monotonic()
                taken = subscription.take(request.max_messages, deadline_s, context, now)
                if taken or now >= give_up_at:
                    return types.PullResponse(received_messages=taken)
                self._wait(subscription, give_up_at)

    def acknowledge(self, request: types.AcknowledgeRequest, context: Any) -> Any:
        """Remove messages."""
        with self.changed:
            subscription = self._subscription(request.subscription, context)
            subscription.acknowledge(request.ack_ids, time.monotonic())
            self.changed.notify_all()
        return empty_pb2.Empty()

    def modify_ack_deadline(self, request: types.ModifyAckDeadlineRequest, context: Any) -> Any:
        """Change the deadline of messages, or hand them back."""
        if not 0 <= request.ack_deadline_seconds <= MAX_DEADLINE_S:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "deadline out of range")
        with self.changed:
            subscription = self._subscription(request.subscription, context)
            subscription.modify(request.ack_ids, request.ack_deadline_seconds, time.monotonic())
            self.changed.notify_all()
        return empty_pb2.Empty()

    def streaming_pull(
        self, requests: Iterator[types.StreamingPullRequest], context: Any
    ) -> Iterator[types.StreamingPullResponse]:
        """Deliver messages as they arrive, until the client ends its side or disconnects."""
        first = next(requests)
        self._check_deadline(first.stream_ack_deadline_seconds, context)
        with self.changed:
            subscription = self._subscription(first.subscription, context)
        ended = threading.Event()
        context.add_callback(lambda: self._end(ended))
        threading.Thread(
            target=self._listen, args=(subscription, requests, ended), daemon=True
        ).start()
        while taken := self._next(subscription, first, ended):
            if not context.is_active():
                with self.changed:
                    subscription.hand_back([each.ack_id for each in taken], time.monotonic())
                    self.changed.notify_all()
                return
            yield types.StreamingPullResponse(received_messages=taken)

    def _next(
        self, subscription: Subscription, first: types.StreamingPullRequest, ended: threading.Event
    ) -> list[types.ReceivedMessage]:
        """Wait for the next messages of a stream; return none after its end."""
        with self.changed:
            while not ended.is_set():
                now = time.monotonic()
                most = first.max_outstanding_messages or 1_000
                room = most - subscription.held_by(ended, now)
                deadline_s = first.stream_ack_deadline_seconds
                if taken := subscription.take(max(0, room), deadline_s, ended, now):
                    return taken
                self._wait(subscription, float("inf"))
        return []

    def _listen(
        self,
        subscription: Subscription,
        requests: Iterator[types.StreamingPullRequest],
        ended: threading.Event,
    ) -> None:
        """Process the client's requests on an open stream; empty requests are heartbeats."""
        with suppress(grpc.RpcError):  # the client disconnected
            for request in requests:
                with self.changed:
                    now = time.monotonic()
                    subscription.acknowledge(request.ack_ids, now)
                    for ack_id, seconds in zip(
                        request.modify_deadline_ack_ids,
                        request.modify_deadline_seconds,
                        strict=True,
                    ):
                        subscription.modify([ack_id], seconds, now)
                    self.changed.notify_all()
        self._end(ended)

    def _end(self, ended: threading.Event) -> None:
        with self.changed:
            ended.set()
            self.changed.notify_all()

    def _wait(self, subscription: Subscription, until: float) -> None:
        due_at = min(until, subscription.next_due_at())
        now = time.monotonic()
        self.changed.wait(None if due_at == float("inf") else max(0.001, due_at - now))

    def _subscription(self, name: str, context: Any) -> Subscription:
        if name not in self.subscriptions:
            _abort(context, grpc.StatusCode.NOT_FOUND, f"no subscription {name}")
        return self.subscriptions[name]

    def _check_deadline(self, seconds: int, context: Any) -> None:
        if not self._min_deadline_s <= seconds <= MAX_DEADLINE_S:
            _abort(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                f"the deadline must be from {self._min_deadline_s} to {MAX_DEADLINE_S} seconds",
            )


def _abort(context: Any, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("abort raises")


def _check_message(message: types.PubsubMessage, context: Any) -> None:
    if not message.data and not message.attributes:
        _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "neither data nor attributes")
    if len(message.data) > MAX_MESSAGE_BYTES:
        _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "the message is too large")
    for name, value in message.attributes.items():
        if len(name.encode()) > 256 or len(value.encode()) > 1024:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"attribute {name} is too long")


METHODS: dict[str, dict[str, Any]] = {
    "google.pubsub.v1.Publisher": {
        "CreateTopic": types.Topic,
        "Publish": types.PublishRequest,
    },
    "google.pubsub.v1.Subscriber": {
        "CreateSubscription": types.Subscription,
        "GetSubscription": types.GetSubscriptionRequest,
        "DeleteSubscription": types.DeleteSubscriptionRequest,
        "Pull": types.PullRequest,
        "Acknowledge": types.AcknowledgeRequest,
        "ModifyAckDeadline": types.ModifyAckDeadlineRequest,
        "StreamingPull": types.StreamingPullRequest,
    },
}
"""The request type of each method. The types contain no descriptors of the services."""


def _handler(state: PubSub, method: str, request: Any) -> grpc.RpcMethodHandler:
    name = "".join(f"_{each.lower()}" if each.isupper() else each for each in method).strip("_")
    kind = (
        grpc.stream_stream_rpc_method_handler
        if method == "StreamingPull"
        else grpc.unary_unary_rpc_method_handler
    )
    return kind(
        getattr(state, name), request_deserializer=request.deserialize, response_serializer=_bytes
    )


def _bytes(answer: Any) -> bytes:
    if isinstance(answer, empty_pb2.Empty):
        return answer.SerializeToString()
    serialize: Callable[[Any], bytes] = type(answer).serialize
    return serialize(answer)


def serve(port: int = 0, min_deadline_s: int = 10) -> tuple[grpc.Server, int]:
    """Start a server on the loopback address. Return it and its port."""
    state = PubSub(min_deadline_s)
    server = grpc.server(
        ThreadPoolExecutor(MAX_STREAMS),
        handlers=[
            grpc.method_handlers_generic_handler(
                service, {name: _handler(state, name, taken) for name, taken in methods.items()}
            )
            for service, methods in METHODS.items()
        ],
        options=[("grpc.max_receive_message_length", 2 * MAX_MESSAGE_BYTES)],
    )
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.pubsub")
    parser.add_argument("--port", type=int, default=8085, help="0 takes a free one")
    parser.add_argument(
        "--min-deadline", type=int, default=10, help="shortest ack deadline in seconds"
    )
    arguments = parser.parse_args()
    server, port = serve(arguments.port, arguments.min_deadline)
    print(f"PUBSUB_EMULATOR_HOST=127.0.0.1:{port}", flush=True)  # noqa: T201
    with suppress(KeyboardInterrupt):
        server.wait_for_termination()


if __name__ == "__main__":
    main()
