"""Conversion of messages to and from those of SQS: batches of at most ten and 1 MiB together."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from renderfarm.queues.base import Message, Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LIMIT_BYTES = 1_048_576
BATCH = 10
MAX_ATTRIBUTES = 10
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def fault(message: Outgoing) -> str | None:
    """Return why SQS cannot carry this message; None if it can."""
    try:
        text = message.body.decode()
    except UnicodeDecodeError:
        return "SQS can carry only text, and this body is not UTF-8"
    if not text:
        return "SQS cannot carry an empty body"
    if _FORBIDDEN.search(text):
        return "SQS cannot carry control characters"
    if size_bytes(message) > LIMIT_BYTES:
        return f"larger than {LIMIT_BYTES} bytes"
    return None


def size_bytes(message: Outgoing) -> int:
    """Return the size that SQS counts: the body, and names, types and values of the attributes."""
    sizes = (len(name.encode()) + len(value.encode()) for name, value in _pairs(message))
    return len(message.body) + sum(sizes) + len("String") * len(message.attributes)


def batches(messages: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Split into batches that fit into one call."""
    batch: list[Outgoing] = []
    total = 0
    for message in messages:
        size = size_bytes(message)
        if batch and (len(batch) == BATCH or total + size > LIMIT_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(message)
        total += size
    if batch:
        yield batch


def entry(number: int, message: Outgoing, *, fifo: bool) -> dict[str, Any]:
    """Return one entry of a batch. On a FIFO queue a message without a group is its own group."""
    prepared: dict[str, Any] = {
        "Id": str(number),
        "MessageBody": message.body.decode(),
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value} for name, value in _pairs(message)
        },
    }
    if fifo:
        prepared["MessageGroupId"] = message.group or message.id
        prepared["MessageDeduplicationId"] = message.id
    return prepared


def _pairs(message: Outgoing) -> list[tuple[str, str]]:
    """Return the attributes that SQS takes: the first ten, and none without a value."""
    return [(name, value) for name, value in message.attributes.items() if value][:MAX_ATTRIBUTES]


def message(raw: Mapping[str, Any]) -> Message:
    """Return a received message."""
    attributes = raw.get("MessageAttributes", {}).items()
    return Message(
        body=raw["Body"].encode(),
        id=raw["MessageId"],
        attempt=int(raw["Attributes"]["ApproximateReceiveCount"]),
        attributes={
            name: each["StringValue"] for name, each in attributes if "StringValue" in each
        },
        receipt=raw["ReceiptHandle"],
    )


def name_of(redrive_policy: str) -> tuple[str, str]:
    """Return account and name of the dead-letter queue in a redrive policy."""
    *_, account, name = json.loads(redrive_policy)["deadLetterTargetArn"].split(":")
    return account, name
