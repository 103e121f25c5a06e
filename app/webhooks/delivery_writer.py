"""Group commit of tries: results that arrive while one transaction runs go into the next one.

A courier that is killed repeats every delivery that was answered and not yet recorded. Recorded one
by one, that was a long queue on a busy machine. With group commit it is one transaction.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, OperationalError

if TYPE_CHECKING:
    from asyncio import Future

    from app.webhooks.deliveries import Outbox, Try

MAX_BATCH = 64
"""Tries in one transaction."""


class DeliveryWriter:
    """Belongs to one event loop."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: list[tuple[Try, Future[bool]]] = []
        self._turn = asyncio.Lock()

    async def settle(self, tried: Try) -> bool:
        """Record a try. Return False if its lease was lost. Raises `SQLAlchemyError`."""
        ended: Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((tried, ended))
        async with self._turn:  # waiters run in order, so this turn's batch holds this try
            if not ended.done():
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._write(batch)
        return ended.result()

    async def _write(self, batch: list[tuple[Try, Future[bool]]]) -> None:
        try:
            kept = await asyncio.to_thread(self._outbox.settle, *(tried for tried, _ in batch))
        except Exception as error:  # noqa: BLE001 - each of them is told, and none is left waiting
            if len(batch) > 1 and _is_about_one(error):
                for one in batch:
                    await self._write([one])
                return
            for _, ended in batch:
                ended.set_exception(error)
        else:
            for tried, ended in batch:
                ended.set_result(tried.delivery.id in kept)


def _is_about_one(error: Exception) -> bool:
    """Whether Postgres answered and refused something in the batch."""
    return isinstance(error, DBAPIError) and not isinstance(error, OperationalError)
