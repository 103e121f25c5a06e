"""Azure Service Bus in the conformance suite: Azure's own SDK with our emulator."""

from __future__ import annotations

from itertools import count
from urllib.parse import urlsplit

import pytest

from tests.contract.queues.harness import LONG_LEASE_S, Dead
from tests.emulators.process import EmulatorProcess

pytest.importorskip("proton", reason="needs python-qpid-proton, which is built from source")
from azure.servicebus import ServiceBusClient, ServiceBusSubQueue

NUMBERS = count()


class ServiceBusHarness:
    """The emulator has every queue whose name begins like one of `LOCKS`, with that lock."""

    LOCKS = {"short": 2.0, "middle": 5.0, "long": LONG_LEASE_S}  # noqa: RUF012 - never changed

    abilities = frozenset({"exclusive", "knows_lost", "counts", "outage", "missing"})
    short_lease_s = LOCKS["short"]
    limit_bytes = 262_144

    def __init__(self) -> None:
        self._server = EmulatorProcess(
            "tests.emulators.servicebus",
            "--max-deliveries=5",
            *(f"--lock={start}={lock_s}" for start, lock_s in self.LOCKS.items()),
        )
        self._connection = (
            f"Endpoint=sb://127.0.0.1:{self._server.port};SharedAccessKeyName=any;"
            "SharedAccessKey=any;UseDevelopmentEmulator=true"
        )
        self._environment = pytest.MonkeyPatch()
        self._environment.setenv("AZURE_SERVICEBUS_CONNECTION_STRING", self._connection)
        self._dead: dict[str, list[Dead]] = {}

    def make(self, *, lease_s: float, max_deliveries: int, ordered: bool) -> str:
        """Return a new name. Raises `KeyError` if no queue has such a lock."""
        assert (max_deliveries, ordered) == (5, False)
        start = {lock_s: start for start, lock_s in self.LOCKS.items()}[lease_s]
        return f"servicebus://test/{start}{next(NUMBERS)}?lease_s={lease_s:g}"

    def dead(self, url: str) -> list[Dead]:
        """Receive the messages that came to the dead-letter queue since the last call.

        Under lock: of what comes while a receiver closes, receive-and-delete loses all.
        """
        found = self._dead.setdefault(url, [])
        with (
            ServiceBusClient.from_connection_string(self._connection) as client,
            client.get_queue_receiver(
                urlsplit(url).path.strip("/"),
                sub_queue=ServiceBusSubQueue.DEAD_LETTER,
            ) as receiver,
        ):
            while batch := receiver.receive_messages(max_message_count=100, max_wait_time=0.5):
                for each in batch:
                    properties = each.application_properties or {}
                    texts = {_text(name): _text(value) for name, value in properties.items()}
                    found.append(
                        Dead(b"".join(each.body), each.dead_letter_error_description, texts)
                    )
                    receiver.complete_message(each)
        return found

    def missing(self) -> str:
        """Return the URL of a queue whose name begins with none of `LOCKS`."""
        return "servicebus://test/missing"

    def kill(self) -> None:
        """Kill the emulator."""
        self._server.kill()

    def restart(self) -> None:
        """Start the emulator again."""
        self._server.start()

    def stop(self) -> None:
        """Stop the emulator, and unset its address."""
        self._server.kill()
        self._environment.undo()


def _text(value: object) -> str:
    """Decode what the SDK gives as bytes."""
    assert isinstance(value, bytes)
    return value.decode()
