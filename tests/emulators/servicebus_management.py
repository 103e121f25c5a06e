"""Requests to `$cbs` and `QUEUE/$management`, and their answers.

https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-request-response
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proton import UNDESCRIBED, Array, Data, Message, int32, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from tests.emulators.servicebus_queue import Queue

CBS = "$cbs"
SUFFIX = "/$management"
LOCK_LOST = "com.microsoft:message-lock-lost"


def serves(address: str) -> bool:
    """Whether this address receives requests, not messages."""
    return address.lower() == CBS or address.lower().endswith(SUFFIX)


def admit(encoded: bytes, known: Callable[[str], bool]) -> bytes:
    """Accept any token for an entity that exists. For others answer 404, like the service."""
    request, asked = _read(encoded)
    status, text = (200, "OK") if known(_text(asked["name"])) else (404, "There is no such entity.")
    return _reply(request, status, {"status-code": int32(status), "status-description": text})


def answer(queue: Queue | None, encoded: bytes, now: float) -> bytes:
    """Return the encoded answer to an encoded request."""
    request, asked = _read(encoded)
    operation = _text(asked.get("operation", ""))
    if queue is not None and operation == "com.microsoft:renew-lock":
        return _renew(queue, request, now)
    if queue is not None and operation == "com.microsoft:update-disposition":
        return _update(queue, request, now)
    return _reply(request, 501, {"errorCondition": "amqp:not-implemented"}, operation)


def _renew(queue: Queue, request: Message, now: float) -> bytes:
    ends = [queue.renew(token, now) for token in _tokens(request)]
    if None in ends:
        return _lost(request)
    times = [timestamp(int(each * 1000)) for each in ends if each is not None]
    return _reply(request, 200, {}, {"expirations": Array(UNDESCRIBED, Data.TIMESTAMP, *times)})


def _update(queue: Queue, request: Message, now: float) -> bytes:
    """Settle without the link of the message: the SDK does this if that link is broken."""
    body = {_text(name): value for name, value in request.body.items()}
    disposition = _text(body["disposition-status"])
    done = []
    for token in _tokens(request):
        if disposition == "completed":
            done.append(queue.complete(token, now))
        elif disposition == "suspended":
            reason, text = body.get("deadletter-reason"), body.get("deadletter-description")
            done.append(queue.bury(token, reason, text, now))
        else:
            done.append(queue.abandon(token, now))
    return _reply(request, 200, {}, {}) if all(done) else _lost(request)


def _tokens(request: Message) -> list[str]:
    """Return the delivery tags of lock tokens."""
    body = {_text(name): value for name, value in request.body.items()}
    tokens: list[UUID] = list(body["lock-tokens"].elements)
    return [token.bytes_le.decode() for token in tokens]


def _lost(request: Message) -> bytes:
    return _reply(request, 410, {"errorCondition": LOCK_LOST}, "The lock is lost.")


def _reply(request: Message, status: int, properties: dict[str, Any], body: Any = None) -> bytes:
    reply = Message(body=body, correlation_id=request.id)
    reply.properties = {
        "statusCode": int32(status),
        "statusDescription": body if isinstance(body, str) else "OK",
        **properties,
    }
    return bytes(reply.encode())


def _read(encoded: bytes) -> tuple[Message, dict[str, Any]]:
    request = Message()
    request.decode(encoded)
    return request, {_text(name): value for name, value in (request.properties or {}).items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
