"""An intake that is killed, as by `kill -9`, at one named point of its way.

Nothing in the program knows of it: the queue and the records that it is given are wrapped here.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Connection, event

from app.catalog.load import load_catalog
from app.config.settings import Settings
from app.database import create_engine
from app.intake.database import IntakeDatabase
from app.intake.reader import Reader
from app.intake.role import accept_context_of
from renderfarm.queues import open_queue
from renderfarm.queues.base import Queue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.intake.triage import Bad
    from app.jobs.records import NewJob
    from app.tenants.tenants import Tenant
    from renderfarm.queues import Message, Outgoing

POINTS = (
    "before receive",
    "after receive",
    "before commit",
    "after commit",
    "amid ack",
    "after ack",
    "before reject",
    "after reject",
)
FEW = 8
"""Messages for each receive, so that there are several rounds."""


class Fate:
    """Kills this process when it comes to `point` for the `turn`-th time."""

    def __init__(self, point: str, turn: int) -> None:
        self._point = point
        self._left = turn

    def at(self, point: str) -> None:
        """Be at a point."""
        if point == self._point:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


class DoomedQueue(Queue):
    """A queue whose user may be killed between any two calls, and within an ack."""

    def __init__(self, queue: Queue, fate: Fate) -> None:
        self.lease_s = queue.lease_s
        self._queue = queue
        self._fate = fate

    def put(self, messages: Sequence[Outgoing]) -> None:
        """Send messages."""
        self._queue.put(messages)

    def receive(self, limit: int = 10, wait_s: float = 0.0) -> list[Message]:
        """A few at a time."""
        self._fate.at("before receive")
        messages = self._queue.receive(min(limit, FEW), wait_s)
        if messages:
            self._fate.at("after receive")
        return messages

    def ack(self, messages: Sequence[Message]) -> list[Message]:
        """First one half, then the other."""
        half = (len(messages) + 1) // 2
        lost = self._queue.ack(messages[:half])
        self._fate.at("amid ack")
        lost += self._queue.ack(messages[half:])
        self._fate.at("after ack")
        return lost

    def reject(self, messages: Sequence[Message], reason: str) -> list[Message]:
        """Move messages to the dead-letter."""
        self._fate.at("before reject")
        lost = self._queue.reject(messages, reason)
        self._fate.at("after reject")
        return lost

    def retry(self, messages: Sequence[Message], delay_s: float = 0.0) -> list[Message]:
        """Give messages back."""
        return self._queue.retry(messages, delay_s)

    def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Keep messages in hand."""
        return self._queue.extend(messages)

    def close(self) -> None:
        """Give everything up."""
        self._queue.close()


class DoomedDatabase(IntakeDatabase):
    """Records whose user may be killed once a transaction is committed."""

    fate: Fate

    def store(self, tenant: Tenant, jobs: Sequence[NewJob]) -> int:
        """Store jobs."""
        made = super().store(tenant, jobs)
        self.fate.at("after commit")
        return made

    def record(self, tenant: Tenant, refused: Sequence[Bad]) -> None:
        """Write down what was refused."""
        super().record(tenant, refused)
        if refused:
            self.fate.at("after commit")


def run(environment: Mapping[str, str], point: str, turn: int) -> None:
    """Read the first source until killed."""
    os.environ.update(environment)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    fate, settings = Fate(point, turn), Settings.from_environment(environment)
    engine = create_engine(settings.database_url)

    @event.listens_for(engine, "commit")
    def before_commit(_: Connection) -> None:
        fate.at("before commit")

    (source,) = settings.sources
    catalog = load_catalog(settings.models_file, settings.serve)
    database: Any = DoomedDatabase(
        engine, accept_context_of(settings, engine, catalog, source), source
    )
    database.fate = fate
    queue = DoomedQueue(open_queue(source.url), fate)
    Reader(source.name, queue, database, threading.Event()).serve()
