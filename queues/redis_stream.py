"""`redis://HOST:PORT/DB?stream=NAME`: a stream with a consumer group, on redis-py.

For Redis 6.2 and newer. Redis has no leases, delays or dead letters for streams; `redis_scripts`
builds them from its data types. The order within a group is not kept: use another service for that.
"""

from __future__ import annotations

import json
import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from redis import Redis, exceptions
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from renderfarm.queues.base import Message, Outgoing, Queue, refuse
from renderfarm.queues.errors import Refused, Unavailable
from renderfarm.queues.redis_scripts import RECEIVE, SETTLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from renderfarm.queues.address import Address

GROUP = "renderfarm"
LIMIT_BYTES = 1_048_576
MAX_REASON_CHARS = 1000
MAX_WAIT_S = 1.0
SOCKET_TIMEOUT_S = 3.0
CONNECT_TIMEOUT_S = 2.0
CONNECTION_ERRORS = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
)
"""Errors that pass when the server is back, has memory again, or has become the primary."""


class RedisStream(Queue):
    """A queue in one stream. Each object is its own consumer."""

    def __init__(self, client: Redis, stream: str, *, lease_s: float, max_deliveries: int) -> None:
        self.lease_s = lease_s
        self._client = client
        self._stream = stream
        # The braces keep the three keys in one slot of a Redis Cluster.
        self._keys = (stream, f"{{{stream}}}:delayed", f"{{{stream}}}:dead")
        self._max_deliveries = max_deliveries
        self._consumer = secrets.token_hex(8)
        self._receive_script = client.register_script(RECEIVE)
        self._settle_script = client.register_script(SETTLE)

    def put(self, messages: Sequence[Outgoing]) -> None:
        """Append to the stream in one transaction; a body above `LIMIT_BYTES` is refused."""
        large = {each.id for each in messages if len(each.body) > LIMIT_BYTES}
        with _errors(), self._client.pipeline() as pipeline:
            for message in messages:
                if message.id not in large:
                    pipeline.xadd(self._stream, _fields(message))
            pipeline.execute()
        refuse(dict.fromkeys(large, f"larger than {LIMIT_BYTES} bytes"))

    def receive(self, limit: int = 10, wait_s: float = 0.0) -> list[Message]:
        """Return redelivered messages first, then new ones; without either, wait for an entry."""
        deadline = time.monotonic() + wait_s
        with _errors():
            while True:
                seen, taken = self._take(limit)
                remaining_s = deadline - time.monotonic()
                if taken or remaining_s <= 0:
                    return taken
                # Redis does not signal delays and leases that end in the meantime.
                pause_s = min(remaining_s, self.lease_s, MAX_WAIT_S)
                self._client.xread({self._stream: seen}, count=1, block=max(1, int(pause_s * 1000)))

    def _take(self, limit: int) -> tuple[bytes, list[Message]]:
        seen, taken = self._receive_script(
            keys=self._keys,
            args=[GROUP, self._consumer, limit, int(self.lease_s * 1000), self._max_deliveries],
        )
        return seen, [_message(*entry) for entry in taken]

    def ack(self, messages: Sequence[Message]) -> list[Message]:
        """Delete the entries, also from the pending list."""
        return self._settle(messages, "ack", "")

    def retry(self, messages: Sequence[Message], delay_s: float = 0.0) -> list[Message]:
        """Write the entries again: to the end of the stream, or to the delayed set."""
        return self._settle(messages, "retry", int(delay_s * 1000))

    def reject(self, messages: Sequence[Message], reason: str) -> list[Message]:
        """Move the entries to the stream {NAME}:dead, with the field `reason`."""
        return self._settle(messages, "reject", reason[:MAX_REASON_CHARS])

    def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Claim the entries again, which restarts their idle time."""
        return self._settle(messages, "extend", "")

    def _settle(self, messages: Sequence[Message], verb: str, argument: str | int) -> list[Message]:
        receipts = [part for message in messages for part in message.receipt]
        if not receipts:
            return []
        with _errors():
            lost = self._settle_script(
                keys=self._keys, args=[GROUP, self._consumer, verb, argument, *receipts]
            )
        return [message for message in messages if message.receipt[0] in lost]

    def close(self) -> None:
        """Close the connections. Redis keeps the consumer's name until its leases have ended."""
        self._client.close()


def _fields(message: Outgoing) -> dict[Any, Any]:
    fields: dict[Any, Any] = {"id": message.id, "body": message.body}
    if message.attributes:
        fields["attributes"] = json.dumps(dict(message.attributes))
    return fields


def _message(entry_id: bytes, deliveries: int, flat: Sequence[bytes]) -> Message:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return Message(
        body=fields.get(b"body", b""),
        id=fields.get(b"id", entry_id).decode(errors="replace"),
        attempt=_count(fields) + deliveries,
        attributes=_attributes(fields.get(b"attributes", b"{}")),
        receipt=(entry_id, deliveries),
    )


def _count(fields: Mapping[bytes, bytes]) -> int:
    text = fields.get(b"attempts", b"0")
    return int(text) if text.isdigit() else 0


def _attributes(text: bytes) -> dict[str, str]:
    """Parse attributes of a foreign producer; anything but an object of texts is dropped."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in pairs if isinstance(value, str)}


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
        raise Refused(f"Redis refused the request: {error}") from error
    except CONNECTION_ERRORS as error:
        raise Unavailable(f"Redis is unavailable: {error}") from error
    except exceptions.RedisError as error:
        raise Refused(f"Redis refused the request: {error}") from error


def open_address(address: Address) -> RedisStream:
    """Open the queue at `redis://...?stream=NAME&lease_s=30&max_deliveries=5`.

    `rediss://` is TLS.
    """
    address.allow("stream", "lease_s", "max_deliveries")
    stream = address.need("stream")
    client = Redis.from_url(
        address.server,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
    )
    return RedisStream(
        client, stream, lease_s=address.lease_s, max_deliveries=address.max_deliveries
    )
