"""The port: what every queue does, whichever service is behind it.

The promises below hold for all adapters; `tests/contract/queues` checks each of them on each.
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
"""The attribute that says why a message is in a dead-letter, where the service has no place for it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. `id` names it to the service where the service takes names.

    Messages of one `group` are handed out in the order they were sent, where the service can do
    that: SQS FIFO queues, Pub/Sub with message ordering, memory. Elsewhere the group is dropped.
    `attributes` travel beside the body; `traceparent` is the one that the farm reads.
    """

    body: bytes
    id: str = field(default_factory=lambda: str(envelope.new_id()))
    attributes: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message in hand: nobody else is given it until its lease runs out.

    `id` is the service's. `attempt` is 1 at the first delivery and grows with each; 1 for ever
    where the service does not count. `receipt` belongs to the adapter.
    """

    body: bytes
    id: str
    attempt: int
    attributes: Mapping[str, str]
    receipt: Any = field(repr=False, compare=False)


class Queue(Protocol):
    """One queue of one service. Any thread may call any verb at any time.

    **Delivery** is at least once: a message that was sent is handed out until it is settled by
    `ack` or `reject`, or has been delivered as often as the queue allows. Then the service moves
    it to the dead-letter. It may be handed out twice; so what is done with it must be idempotent.

    **Leases.** A message in hand belongs to its receiver for `lease_s`. Then it is handed out
    again, with a larger `attempt`. `extend` starts the lease anew.

    **Settling.** `ack`, `retry`, `reject` and `extend` take messages that this object received,
    and return those of them that were lost: no longer in hand, so nothing was done and they come
    again. SQS and Pub/Sub do not always know; an empty answer from them is their best knowledge.

    **Outages.** A verb that cannot reach the service raises `Unavailable`, mostly at once and at
    the latest after half a minute, and works again by itself when the service is back. A message
    that was in hand comes again.

    **Close** hands back at once what was fetched ahead but not handed out. What is in hand stays
    leased: `retry` it first. No thread and no socket stays behind.
    """

    lease_s: float

    @abstractmethod
    def put(self, messages: Sequence[Outgoing]) -> None:
        """Store messages, in order. They are safe when this returns.

        Raises `NotSent` naming those that were refused (too large, for one); the others are safe.
        """

    @abstractmethod
    def receive(self, limit: int = 10, wait_s: float = 0.0) -> list[Message]:
        """Take up to `limit` messages; wait up to about `wait_s` for the first, for no more."""

    @abstractmethod
    def ack(self, messages: Sequence[Message]) -> list[Message]:
        """Be done with messages: they are removed."""

    @abstractmethod
    def retry(self, messages: Sequence[Message], delay_s: float = 0.0) -> list[Message]:
        """Hand messages back. They are handed out again after `delay_s`, not before."""

    @abstractmethod
    def reject(self, messages: Sequence[Message], reason: str) -> list[Message]:
        """Move messages to the queue's dead-letter, with the reason beside each."""

    @abstractmethod
    def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Keep messages in hand for another `lease_s` from now."""

    @abstractmethod
    def close(self) -> None:
        """Give everything up. Calling it again does nothing."""

    def send(
        self,
        request: Mapping[str, Any],
        *,
        attributes: Mapping[str, str] | None = None,
        group: str | None = None,
    ) -> str:
        """Submit one job: the fields of `renderfarm.JobRequest`, and optionally its `id`.

        Returns the job's id, made here when it has none: `Farm.job(id)` finds the job by it.
        Sending the same id twice makes one job. Raises `NotSent` when the service refuses it.
        """
        return self.send_many([request], attributes=attributes, group=group)[0]

    def send_many(
        self,
        requests: Iterable[Mapping[str, Any]],
        *,
        attributes: Mapping[str, str] | None = None,
        group: str | None = None,
    ) -> list[str]:
        """Submit jobs, in order; returns their ids, in the same order. See `send`."""
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
