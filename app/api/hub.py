"""Wakes requests that wait for a job: one LISTEN connection per process, however many wait.

A wake-up only means: read the job again. While the connection is broken no request is woken, so
every request that waits also polls every `POLL_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING

import psycopg
import structlog

from app.database import CONNECTION, libpq_url
from app.errors import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger("app.api")
POLL_S = 2.0
RECONNECT_S = 1.0


class Hub:
    """Belongs to the API's event loop; `run` is its one task."""

    def __init__(self, database_url: str) -> None:
        self._url = libpq_url(database_url)
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @contextlib.contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """Return an event that is set whenever the job may have changed. Watch first, then read."""
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def run(self) -> None:
        """Pass notifications on until cancelled. Reconnects whenever the connection breaks."""
        while True:
            try:
                await self._listen()
            except psycopg.OperationalError as error:
                log.warning("listener_reconnecting", cause=first_line(error))
                await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, **CONNECTION)
        async with connection:
            await connection.execute("LISTEN jobs")
            self._wake_all()
            async for notice in connection.notifies():
                for event in self._waiting.get(notice.payload.partition(" ")[0], ()):
                    event.set()

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()


async def wait_and_reset(event: asyncio.Event, timeout_s: float) -> None:
    """Wait until the event is set or this many seconds have passed; then reset the event."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), max(0.0, timeout_s))
    event.clear()
