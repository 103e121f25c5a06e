"""A courier at work in the test's own event loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from app.outbound.client import GuardedBackend, Outbound, Resolver
from app.webhooks.courier import Courier
from app.webhooks.deliveries import Outbox
from tests.integration.courier.endpoint import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Engine


def url_for(key: str, lasts_s: int | None) -> str:
    """Where an image is said to be."""
    return f"https://cdn.test/{key}" + (f"?lasts={lasts_s}" if lasts_s else "")


@asynccontextmanager
async def delivering(
    engine: Engine, *, outbox: Outbox | None = None, allow_private: bool = True, **options: Any
) -> AsyncIterator[Courier]:
    """A courier at work. On leaving it is told to stop, and has settled all that it took."""
    resolver = Resolver(threads=4)
    async with Outbound(GuardedBackend(resolver, allow_private=allow_private)) as outbound:
        courier = Courier(outbox or Outbox(engine), outbound, url_for, **options)
        serving = asyncio.create_task(courier.serve())
        try:
            yield courier
        finally:
            courier.stop()
            async with asyncio.timeout(PATIENCE_S):
                await serving
    resolver.close()
