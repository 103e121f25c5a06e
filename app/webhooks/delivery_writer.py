"""Tries are written down together: what ends while one transaction runs goes into the next.

A courier that is killed repeats what was answered and not yet written down. Written one by one on a
busy machine that was a long queue; so it is what one transaction holds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, OperationalError

if TYPE_CHECKING:
    from asyncio import Future

    from app.webhooks.deliveries import Outbox, Try

MOST = 64
"""Tries in one transaction."""


class DeliveryWriter:
    """Belongs to one event loop."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: list[tuple[Try, Future[bool]]] = []
        self._turn = asyncio.Lock()

    async def settle(self, tried: Try) -> bool:
        """Write a try down. False: its lease was lost. Raises `SQLAlchemyError` if it cannot be."""
        ended: Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((tried, ended))
        async with self._turn:  # given in order, so that the batch of this turn holds this try
            if not ended.done():
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
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
    """Whether Postgres was there and took offence at something in the batch."""
    return isinstance(error, DBAPIError) and not isinstance(error, OperationalError)
