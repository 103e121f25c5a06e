"""The port (Protocol) of every queue, with its promises.

All adapters keep these promises; `tests/contract/queues` checks each promise on each adapter.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from renderfarm.queues import envelope
from renderfarm.queues.errors import NotSent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REASON = "renderfarm-reason"
"""The attribute with the reason of a dead letter, if the service has no field for it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. `id` is its deduplication id, if the service deduplicates.

    Messages of one `group` are delivered in the order in which they were sent by SQS FIFO queues,
    Pub/Sub with message ordering, and memory. The other services ignore the group.
    `attributes` are sent with the body; the farm reads `traceparent`.
    """

    body: bytes
    id: str = field(default_factory=lambda: str(envelope.new_id()))
    attributes: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A received message: no other receiver gets it until its lease runs out.

    `id` is the service's. `attempt` is 1 at the first delivery and grows with each; it stays 1 if
    the service does not count deliveries. Only the adapter uses `receipt`.
    """

    body: bytes
    id: str
    attempt: int
    attributes: Mapping[str, str]
    receipt: Any = field(repr=False, compare=False)


class Queue(Protocol):
    """One queue of one service. Any thread may call any verb at any time.

    **Delivery** is at least once. A message is delivered until it is settled by `ack` or `reject`,
    or until it has been delivered as often as the queue allows; then the service moves it to the
    dead-letter queue. It may be delivered twice, so its processing must be idempotent.

    **Leases.** A received message belongs to its receiver for `lease_s` seconds (visibility
    timeout). Then it is delivered again, with a larger `attempt`. `extend` starts the lease again.

    **Settling.** `ack`, `retry`, `reject` and `extend` take messages that this object received, and
    return those whose lease was lost: these are unchanged, and are delivered again. SQS and Pub/Sub
    do not always know, so their empty answer is no proof.

    **Outages.** A verb that cannot reach the service raises `Unavailable`, mostly at once and at
    the latest after half a minute, and works again when the service is back. Leased messages
    are delivered again.

    **Close** hands prefetched messages back at once, and ends every thread and socket. Received
    messages stay leased, so `retry` them first.
    """

    lease_s: float

    @abstractmethod
    def put(self, messages: Sequence[Outgoing]) -> None:
        """Store messages, in order. They are safe when this returns.

        Raises `NotSent` naming the refused ones (too large, for example); the others are safe.
        """

    @abstractmethod
    def receive(self, limit: int = 10, wait_s: float = 0.0) -> list[Message]:
        """Receive up to `limit` messages; wait up to about `wait_s` for the first, not for more."""

    @abstractmethod
    def ack(self, messages: Sequence[Message]) -> list[Message]:
        """Settle messages: they are removed."""

    @abstractmethod
    def retry(self, messages: Sequence[Message], delay_s: float = 0.0) -> list[Message]:
        """Hand messages back. They are delivered again after `delay_s`, not before."""

    @abstractmethod
    def reject(self, messages: Sequence[Message], reason: str) -> list[Message]:
        """Move messages to the queue's dead-letter queue, with the reason."""

    @abstractmethod
    def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Extend the lease of messages by another `lease_s` from now."""

    @abstractmethod
    def close(self) -> None:
        """Close everything. Safe to repeat."""

    def send(
        self,
        request: Mapping[str, Any],
        *,
        attributes: Mapping[str, str] | None = None,
        group: str | None = None,
    ) -> str:
        """Submit one job: the fields of `renderfarm.JobRequest`, and optionally its `id`.

        Returns the job's id, made here if the request has none: `Farm.job(id)` finds the job by it.
        The same id twice makes one job. Raises `NotSent` if the service refuses it.
        """
        return self.send_many([request], attributes=attributes, group=group)[0]

    def send_many(
        self,
        requests: Iterable[Mapping[str, Any]],
        *,
        attributes: Mapping[str, str] | None = None,
        group: str | None = None,
    ) -> list[str]:
        """Submit jobs, in order; return their ids, in the same order. See `send`."""
        packed = [envelope.pack(request) for request in requests]
        self.put([Outgoing(body, job_id, attributes or {}, group) for job_id, body in packed])
        return [job_id for job_id, _ in packed]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def refuse(refused: Mapping[str, str]) -> None:
    """End a `put`: raise `NotSent` if anything was refused."""
    if refused:
        raise NotSent(refused)
