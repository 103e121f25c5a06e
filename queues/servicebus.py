"""`servicebus://NAMESPACE/QUEUE`: Azure Service Bus, on azure-servicebus.

Credentials are `AZURE_SERVICEBUS_CONNECTION_STRING`, which then also names the namespace, or the
default Azure credential. Locks and the number of deliveries are the queue's own settings;
`?lease_s=` repeats its lock duration.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from azure.servicebus import ServiceBusClient, exceptions

from renderfarm.queues import servicebus_message as convert
from renderfarm.queues.base import Message, Outgoing, Queue, refuse
from renderfarm.queues.errors import BadAddress, MissingExtra, Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from azure.servicebus import (
        ServiceBusMessageBatch,
        ServiceBusReceivedMessage,
        ServiceBusReceiver,
        ServiceBusSender,
    )

    from renderfarm.queues.address import Address

MIN_WAIT_S = 0.2
MAX_WAIT_S = 1.0
"""The longest wait of one call: the SDK's objects serve one thread at a time."""
MAX_REASON_CHARS = 1000
REJECTED = "rejected"
RETRIES: dict[str, Any] = {"retry_total": 1, "retry_backoff_factor": 0.1, "retry_backoff_max": 1}
LOST_LEASE_ERRORS = (
    exceptions.MessageLockLostError,
    exceptions.MessageNotFoundError,
    exceptions.MessageAlreadySettled,
)
REFUSAL_ERRORS = (
    exceptions.MessagingEntityNotFoundError,
    exceptions.MessagingEntityDisabledError,
    exceptions.ServiceBusAuthenticationError,
    exceptions.ServiceBusAuthorizationError,
)


class ServiceBusQueue(Queue):
    """A queue without sessions, in peek-lock mode, without prefetch."""

    def __init__(
        self, open_client: Callable[[], ServiceBusClient], name: str, *, lease_s: float
    ) -> None:
        self.lease_s = lease_s
        self._open_client = open_client
        self._name = name
        self._lock = threading.RLock()
        self._client: ServiceBusClient | None = None
        self._receiver: ServiceBusReceiver | None = None
        self._sender: ServiceBusSender | None = None

    def put(self, messages: Sequence[Outgoing]) -> None:
        """Send in batches as large as the link allows."""
        refused = {}
        with self._ready():
            sender = self._opened_sender()
            batch, count = sender.create_message_batch(), 0
            for message in messages:
                if _fits(batch, message):
                    count += 1
                    continue
                if count:
                    sender.send_messages(batch)
                batch, count = sender.create_message_batch(), 0
                if _fits(batch, message):
                    count = 1
                else:
                    refused[message.id] = f"larger than {batch.max_size_in_bytes} bytes"
            if count:
                sender.send_messages(batch)
        refuse(refused)

    def receive(self, limit: int = 10, wait_s: float = 0.0) -> list[Message]:
        """Receive under lock; messages that arrive after their lock has ended are left out."""
        deadline = time.monotonic() + wait_s
        while True:
            remaining_s = min(MAX_WAIT_S, max(MIN_WAIT_S, deadline - time.monotonic()))
            with self._ready():
                raw = self._opened_receiver().receive_messages(
                    max_message_count=limit, max_wait_time=remaining_s
                )
            taken = [convert.message(each) for each in raw if not convert.expired(each)]
            if taken or time.monotonic() >= deadline:
                return taken

    def ack(self, messages: Sequence[Message]) -> list[Message]:
        """Complete the messages."""
        return self._settle(messages, lambda receiver, raw: receiver.complete_message(raw))

    def retry(self, messages: Sequence[Message], delay_s: float = 0.0) -> list[Message]:
        """Abandon the messages; for a delay, schedule copies and complete the originals.

        A crash between the two leaves a message twice, and never loses it. The service counts the
        deliveries of the copy from one; `attempt` continues.
        """
        if delay_s <= 0:
            return self._settle(messages, lambda receiver, raw: receiver.abandon_message(raw))
        # Only of messages that are still leased: a copy of another one would be a duplicate.
        lost = self.extend(messages)
        leased = [each for each in messages if each not in lost]
        with self._ready():
            for message in leased:
                self._opened_sender().send_messages(convert.later(message, delay_s))
        return lost + self.ack(leased)

    def reject(self, messages: Sequence[Message], reason: str) -> list[Message]:
        """Dead-letter the messages, with the reason as the description."""
        text = reason[:MAX_REASON_CHARS]
        return self._settle(
            messages,
            lambda receiver, raw: receiver.dead_letter_message(
                raw, reason=REJECTED, error_description=text
            ),
        )

    def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Renew the locks, for the queue's own lock duration."""
        return self._settle(messages, lambda receiver, raw: receiver.renew_message_lock(raw))

    def _settle(
        self,
        messages: Sequence[Message],
        settle: Callable[[ServiceBusReceiver, ServiceBusReceivedMessage], object],
    ) -> list[Message]:
        lost = []
        for message in messages:
            with self._ready():
                try:
                    settle(self._opened_receiver(), message.receipt)
                except LOST_LEASE_ERRORS:
                    lost.append(message)
        return lost

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Give one thread its turn. An error closes everything; the next call opens it again."""
        with self._lock:
            try:
                yield
            except REFUSAL_ERRORS as error:
                raise Refused(f"Service Bus refused {self._name}: {error}") from error
            except exceptions.ServiceBusError as error:
                self.close()
                raise Unavailable(
                    f"Service Bus is unavailable for {self._name}: {error}"
                ) from error

    def _opened_client(self) -> ServiceBusClient:
        if self._client is None:
            self._client = self._open_client()
        return self._client

    def _opened_sender(self) -> ServiceBusSender:
        if self._sender is None:
            self._sender = self._opened_client().get_queue_sender(self._name)
        return self._sender

    def _opened_receiver(self) -> ServiceBusReceiver:
        """Return the receiver, attached: attaching takes longer than a short wait."""
        if self._receiver is None:
            self._receiver = self._opened_client().get_queue_receiver(self._name).__enter__()
        return self._receiver

    def close(self) -> None:
        """Close links and connections."""
        with self._lock:
            opened = (self._receiver, self._sender, self._client)
            self._receiver = self._sender = self._client = None
            for each in opened:
                if each is not None:
                    with suppress(exceptions.ServiceBusError):
                        each.close()


def _fits(batch: ServiceBusMessageBatch, message: Outgoing) -> bool:
    try:
        batch.add_message(convert.outgoing(message))
    except exceptions.MessageSizeExceededError:
        return False
    return True


def _open_client(namespace: str) -> ServiceBusClient:
    if text := os.environ.get("AZURE_SERVICEBUS_CONNECTION_STRING"):
        return ServiceBusClient.from_connection_string(text, **RETRIES)
    try:
        identity = import_module("azure.identity")  # only needed without a connection string
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "set AZURE_SERVICEBUS_CONNECTION_STRING, or: pip install azure-identity"
        ) from error
    host = namespace if "." in namespace else f"{namespace}.servicebus.windows.net"
    return ServiceBusClient(host, identity.DefaultAzureCredential(), **RETRIES)


def open_address(address: Address) -> ServiceBusQueue:
    """Open the queue at `servicebus://NAMESPACE/QUEUE?lease_s=30`."""
    address.allow("lease_s")
    if not address.path:
        raise BadAddress(
            "servicebus:// needs a namespace and a queue: servicebus://NAMESPACE/QUEUE"
        )
    return ServiceBusQueue(
        lambda: _open_client(address.host), address.path, lease_s=address.lease_s
    )
