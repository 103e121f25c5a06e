"""Emulator of a Service Bus namespace for tests: the AMQP 1.0 broker that Azure's own SDK uses.

    python -m tests.emulators.servicebus --port 5672

It prints its connection string. A queue exists as soon as its name is used. `servicebus_queue`
lists what is not emulated.
"""

from __future__ import annotations

import argparse
import time
from typing import Any
from urllib.parse import unquote, urlsplit

from proton import Condition, Delivery, Handler, Link
from proton.handlers import Handshaker
from proton.reactor import Container

from app.local import ports
from tests.emulators import servicebus_management as management
from tests.emulators import servicebus_wire as wire
from tests.emulators.servicebus_queue import Queue

LIMIT_BYTES = 262_144
DEAD_LETTER = "/$deadletterqueue"
WINDOW = 1000
LOST = Condition(
    management.LOCK_LOST, "The lock is lost.", {management.LOCK_LOST: "message-lock-lost"}
)


class Broker(Handler):
    """All queues of a namespace and their waiting consumers. One thread does everything."""

    def __init__(self, port: int, locks: dict[str, float], max_deliveries: int) -> None:
        self._port = port
        self._locks = locks
        self._max_deliveries = max_deliveries
        self._queues: dict[str, Queue] = {}
        self._consumers: list[Link] = []
        self._replies: dict[tuple[Any, str], Link] = {}
        self._container: Container | None = None
        self._alarm_at = float("inf")

    def on_reactor_init(self, event: Any) -> None:
        """Listen, and print the connection string."""
        self._container = event.container
        self._container.listen(f"127.0.0.1:{self._port}")
        print(  # noqa: T201
            f"Endpoint=sb://127.0.0.1:{self._port};SharedAccessKeyName=any;SharedAccessKey=any;"
            "UseDevelopmentEmulator=true",
            flush=True,
        )

    def on_link_remote_open(self, event: Any) -> None:
        """Attach a client to a queue, to its dead-letter queue, or to the management of either."""
        link = event.link
        if not link.state & Link.LOCAL_UNINIT:
            return
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        link.rcv_settle_mode = link.remote_rcv_settle_mode
        link.snd_settle_mode = link.remote_snd_settle_mode
        address = _address(link)
        if management.serves(address):
            if link.is_sender:
                self._replies[event.connection, address] = link
        elif self._queue(address) is None:
            link.open()
            link.condition = Condition("amqp:not-found", f"There is no queue {address!r}.", {})
            link.close()
            return
        elif link.is_sender:
            self._consumers.append(link)
        link.max_message_size = LIMIT_BYTES
        link.open()
        if link.is_receiver:
            link.flow(WINDOW)

    def on_link_remote_close(self, event: Any) -> None:
        """Remove a consumer; its messages stay locked."""
        self._forget(event.link)

    on_link_remote_detach = on_link_remote_close

    def on_transport_closed(self, event: Any) -> None:
        """Remove all consumers of a closed connection."""
        for link in [each for each in self._consumers if each.connection == event.connection]:
            self._forget(link)

    def on_link_flow(self, event: Any) -> None:
        """Process a consumer's credit, or its request to stop waiting (drain)."""
        link = event.link
        if link.is_sender:
            self._hand_out()
            if link.drain_mode:
                link.drained()

    def on_delivery(self, event: Any) -> None:
        """Process a complete message or request, or a consumer's settlement."""
        delivery, link = event.delivery, event.link
        if link.is_sender:
            if delivery.updated:
                self._settle(delivery, _address(link))
        elif delivery.readable and not delivery.partial:
            encoded = link.recv(delivery.pending)
            link.advance()
            link.flow(WINDOW - link.credit)
            if management.serves(_address(link)):
                self._manage(event.connection, _address(link), encoded)
                _echo(delivery, Delivery.ACCEPTED)
            else:
                self._accept(delivery, _address(link), encoded)
        self._hand_out()

    def on_timer_task(self, event: Any) -> None:
        """Process locks that end and scheduled messages that are due."""
        del event
        self._alarm_at = float("inf")
        self._hand_out()

    def _queue(self, address: str) -> Queue | None:
        name, _, end = address.lower().partition(DEAD_LETTER)
        if name not in self._queues:
            lock_s = next((s for start, s in self._locks.items() if name.startswith(start)), None)
            if lock_s is None or end:
                return None
            dead = Queue(lock_s, self._max_deliveries)
            self._queues[name] = Queue(lock_s, self._max_deliveries, dead)
        queue = self._queues[name]
        return queue.dead if DEAD_LETTER in address.lower() else queue

    def _accept(self, delivery: Delivery, address: str, encoded: bytes) -> None:
        queue = self._queue(address)
        if queue is None:  # sent before the client received the error that there is no such queue
            _echo(delivery, Delivery.REJECTED)
            return
        for each in wire.messages(encoded):
            queue.add(each, time.time(), wire.scheduled_at(each))
        _echo(delivery, Delivery.ACCEPTED)

    def _hand_out(self) -> None:
        """Deliver due messages to the waiting consumers, and set the timer for the next ones."""
        for link in self._consumers:
            queue = self._queue(_address(link))
            while queue is not None and link.credit > 0 and (entry := queue.take(time.time())):
                delivery = link.delivery(entry.token)
                link.stream(wire.outgoing(entry))
                link.advance()
                if link.remote_snd_settle_mode == Link.SND_SETTLED:
                    delivery.settle()
                    queue.complete(entry.token, time.time())
        due_at = min((each.next_due_at() for each in self._queues.values()), default=float("inf"))
        if due_at < self._alarm_at and self._container is not None:
            self._alarm_at = due_at
            self._container.schedule(max(0.0, due_at - time.time()) + 0.005, self)

    def _settle(self, delivery: Delivery, address: str) -> None:
        """Settle a message, and answer with the same outcome, for which the SDK waits."""
        queue = self._queue(address)
        outcome, token, now = delivery.remote_state, delivery.tag, time.time()
        if queue is None or (delivery.settled and outcome == 0):
            delivery.settle()
            return
        if outcome == Delivery.ACCEPTED:
            done = queue.complete(token, now)
        elif outcome == Delivery.REJECTED:
            info = delivery.remote.condition.info or {}
            reason, text = (
                info.get("DeadLetterReason"),
                info.get("DeadLetterErrorDescription"),
            )
            done = queue.bury(token, reason, text, now)
        elif outcome == Delivery.RELEASED:
            done = queue.release(token, now)
        else:
            done = queue.abandon(token, now)
        if not done:
            delivery.local.condition = LOST
        _echo(delivery, outcome if done else Delivery.REJECTED)

    def _manage(self, connection: Any, address: str, encoded: bytes) -> None:
        """Answer a request, on the link that the client opened for answers."""
        if address.lower() == management.CBS:
            reply = management.admit(encoded, lambda url: self._queue(_path(url)) is not None)
        else:
            queue = self._queue(address.lower().removesuffix(management.SUFFIX))
            reply = management.answer(queue, encoded, time.time())
        link = self._replies[connection, address]
        link.delivery(link.delivery_tag())
        link.stream(reply)
        link.advance()

    def _forget(self, link: Link) -> None:
        if link in self._consumers:
            self._consumers.remove(link)


def _address(link: Link) -> str:
    """Return the entity's path: clients send it plain or as a URL."""
    terminus = link.remote_source if link.is_sender else link.remote_target
    return _path(terminus.address or "")


def _path(text: str) -> str:
    return (unquote(urlsplit(text).path) if "://" in text else text).strip("/")


def _echo(delivery: Delivery, outcome: Any) -> None:
    delivery.update(outcome)
    delivery.settle()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.servicebus")
    parser.add_argument("--port", type=int, default=5672, help="0 takes a free one")
    parser.add_argument("--max-deliveries", type=int, default=10)
    parser.add_argument(
        "--lock",
        action="append",
        metavar="START=SECONDS",
        help="lock of the queues whose names begin with START; other queues do not exist",
    )
    arguments = parser.parse_args()
    locks = dict(each.split("=") for each in arguments.lock or ["=30"])
    broker = Broker(
        arguments.port or ports.free(),
        {start: float(seconds) for start, seconds in locks.items()},
        arguments.max_deliveries,
    )
    Container(broker, Handshaker()).run()


if __name__ == "__main__":
    main()
