"""Conversion of messages to and from those of Azure Service Bus."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage
from azure.servicebus.amqp import AmqpMessageBodyType

from renderfarm.queues.base import Message, Outgoing

if TYPE_CHECKING:
    from collections.abc import Mapping

ID = "renderfarm-id"
ATTEMPTS = "renderfarm-attempts"


def outgoing(message: Outgoing) -> ServiceBusMessage:
    """Return a message to send. The group is ignored: on Service Bus it would need sessions."""
    return ServiceBusMessage(
        message.body,
        message_id=message.id,
        application_properties=_properties(message.attributes),
    )


def message(raw: ServiceBusReceivedMessage) -> Message:
    """Return a received message."""
    extra = {_text(name): value for name, value in (raw.application_properties or {}).items()}
    attempts = extra.pop(ATTEMPTS, 0)
    own_id = extra.pop(ID, None)
    return Message(
        body=_body(raw),
        id=_text(own_id or raw.message_id or raw.sequence_number),
        attempt=(attempts if isinstance(attempts, int) else 0) + (raw.delivery_count or 0) + 1,
        attributes={
            name: _text(value) for name, value in extra.items() if isinstance(value, str | bytes)
        },
        receipt=raw,
    )


def later(original: Message, delay_s: float) -> ServiceBusMessage:
    """Return a copy that is delivered after `delay_s`.

    Its `message_id` is new, or duplicate detection would drop it; the visible id and the attempts
    so far are sent as properties.
    """
    return ServiceBusMessage(
        original.body,
        message_id=f"{original.id}/{original.attempt}",
        application_properties=_properties(
            {**original.attributes, ID: original.id, ATTEMPTS: original.attempt}
        ),
        scheduled_enqueue_time_utc=datetime.now(UTC) + timedelta(seconds=delay_s),
    )


def expired(raw: ServiceBusReceivedMessage) -> bool:
    """Whether the lock ended before the SDK returned the message."""
    until = raw.locked_until_utc
    return until is not None and until <= datetime.now(UTC)


def _properties(values: Mapping[str, str | int]) -> dict[str | bytes, Any]:
    return {name: value for name, value in values.items()}  # noqa: C416 - widens the keys' type


def _body(raw: ServiceBusReceivedMessage) -> bytes:
    if raw.body_type is AmqpMessageBodyType.DATA:
        return b"".join(raw.body)
    return str(raw).encode()  # an AMQP value: other producers may send a text


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
