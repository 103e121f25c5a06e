"""Courier: delivers webhooks from the outbox. Any number may run; no delivery is lost if one dies.

It claims due deliveries, posts many at once, and records the results. It sleeps until the outbox is
written, a delivery ends, or `POLL_S` have passed.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
import structlog
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection

from app.database import create_engine
from app.errors import summary
from app.notify import Listener
from app.outbound.client import GuardedBackend, Outbound, Resolver
from app.storage.objects import ObjectStorage
from app.webhooks.deliveries import Delivery, Outbox, Try
from app.webhooks.delivery_writer import DeliveryWriter
from app.webhooks.posting import post
from app.webhooks.schedule import Answer, Answered, Decision, RetryAt, decide, failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from app.config.settings import Settings

CONCURRENCY = 256
PER_ENDPOINT = 8
POLL_S = 1.0
MAX_YOUNG, YOUNG_S = 16, 0.05
"""At most this many deliveries are younger than `YOUNG_S`. If the courier dies, each delivery that
was posted and not yet recorded is sent twice, so a burst is not posted all at once. A slow
endpoint delays the others only for `YOUNG_S`.
"""
THREADS = 16  # for statements; name lookups have their own threads

log = structlog.get_logger("app.webhooks.courier")


class Courier:
    """Delivers until `stop`. Deliveries in flight are finished and recorded first.

    `concurrency` limits the deliveries in flight, `per_endpoint` those to one tenant's host.
    """

    def __init__(
        self,
        outbox: Outbox,
        outbound: Outbound,
        url_for: Callable[[str, int | None], str],
        *,
        concurrency: int = CONCURRENCY,
        per_endpoint: int = PER_ENDPOINT,
        poll_s: float = POLL_S,
    ) -> None:
        self._outbox = outbox
        self._writer = DeliveryWriter(outbox)
        self._outbound = outbound
        self._url_for = url_for
        self._concurrency = concurrency
        self._per_endpoint = per_endpoint
        self._poll_s = poll_s
        self._in_flight: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._young = asyncio.Semaphore(MAX_YOUNG)
        self.stopping = False

    def wake(self) -> None:
        """Read the outbox now. Call this in the event loop's thread."""
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more. Call this in the event loop's thread."""
        self.stopping = True
        self.wake()

    async def serve(self) -> None:
        """Deliver until `stop`; return when everything that was claimed is recorded."""
        async with asyncio.TaskGroup() as deliveries:
            while not self.stopping:
                self._wake.clear()
                claimed = await self._claim()
                for delivery in claimed:
                    self._in_flight[delivery.endpoint] += 1
                    deliveries.create_task(self._deliver(delivery))
                if not claimed:
                    await self._rest()

    async def _claim(self) -> list[Delivery]:
        room = self._concurrency - self._in_flight.total()
        if room <= 0:
            return []
        try:
            return await asyncio.to_thread(
                self._outbox.claim,
                room=room,
                cap=self._per_endpoint,
                in_flight=dict(self._in_flight),  # a copy: the claim runs in a thread
            )
        except (OperationalError, NoConnection) as error:
            log.warning("database_unavailable", cause=summary(error))
            return []

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), self._poll_s)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            async with self._start():
                began = time.perf_counter()
                answer = await post(self._outbound, delivery, self._url_for)
                decision = decide(delivery.tries + 1, answer, random.random)
                took_s = time.perf_counter() - began
                settled = await self._writer.settle(Try(delivery, answer, decision, took_s))
            _report(delivery, answer, decision, settled=settled, took_s=took_s)
        except SQLAlchemyError as error:
            # The lease runs out and the webhook is delivered again: twice is better than never.
            log.warning("delivery_not_recorded", delivery=str(delivery.id), cause=summary(error))
        except Exception:  # outside, it would end all deliveries and the courier
            log.exception("unexpected_error", delivery=str(delivery.id))
        finally:
            self._in_flight[delivery.endpoint] -= 1
            self._in_flight += Counter()  # removes the zeros
            self.wake()

    @asynccontextmanager
    async def _start(self) -> AsyncIterator[None]:
        """Wait for a place among the young deliveries, and give it back after a while."""
        await self._young.acquire()
        timer = asyncio.get_running_loop().call_later(YOUNG_S, self._young.release)
        try:
            yield
        finally:
            if timer.when() > asyncio.get_running_loop().time():
                timer.cancel()
                self._young.release()


def run(settings: Settings) -> None:
    """Deliver webhooks until SIGTERM or SIGINT. Wait, and log it, while Postgres is unavailable."""
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS))
    engine = create_engine(settings.database_url)
    resolver = Resolver(CONCURRENCY)
    network = GuardedBackend(resolver, allow_private=settings.webhook_allow_private)
    async with Outbound(network) as outbound, asyncio.TaskGroup() as tasks:
        courier = Courier(Outbox(engine), outbound, ObjectStorage(settings).url)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, courier.stop)
        tasks.create_task(listen(Listener(settings.database_url, "outbox"), courier))
        log.info("courier_started")
        await courier.serve()
    resolver.close()
    engine.dispose()
    log.info("courier_stopped")


async def listen(listener: Listener, courier: Courier) -> None:
    """Wake the courier when the outbox is written.

    Only a shortcut: it also polls every `POLL_S`.
    """
    while not courier.stopping:
        try:
            if await asyncio.to_thread(listener.wait, POLL_S):
                courier.wake()
        except psycopg.OperationalError as error:
            log.warning("listener_reconnecting", cause=summary(error))
            await asyncio.sleep(POLL_S)
    listener.close()


def _report(
    delivery: Delivery, answer: Answer, decision: Decision, *, settled: bool, took_s: float
) -> None:
    """Log one line per try: the endpoint instead of the URL, which may hold a customer's secret."""
    log.info(
        "delivery_tried",
        delivery=str(delivery.id),
        job_id=str(delivery.job_id),
        type=delivery.type,
        endpoint=delivery.endpoint,
        tries=delivery.tries + 1,
        outcome=type(decision).__name__.lower(),
        status=answer.status if isinstance(answer, Answered) else None,
        retry_in_s=round(decision.delay_s, 1) if isinstance(decision, RetryAt) else None,
        took_s=round(took_s, 3),
        settled=settled,
        error=failure(answer),
    )
