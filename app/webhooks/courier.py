"""The courier: delivers webhooks from the outbox. Any number may run; one that dies loses nothing.

It takes what is due, posts many at once, and writes down what came of each. It sleeps until the
outbox says that something was written, a delivery ends, or `POLL_S` have passed.
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
STARTING, YOUNG_S = 16, 0.05
"""So many deliveries are this young at most. What is posted and not yet written down comes twice if
the courier dies, so a burst is not posted all at once; a slow endpoint holds up none for longer."""
THREADS = 16  # for statements; look-ups of names have their own

log = structlog.get_logger("app.webhooks.courier")


class Courier:
    """Delivers until told to stop. What is under way is finished and settled first.

    `concurrency` bounds the deliveries under way, `per_endpoint` those to one tenant's host.
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
        self._settler = DeliveryWriter(outbox)
        self._outbound = outbound
        self._url_for = url_for
        self._concurrency = concurrency
        self._per_endpoint = per_endpoint
        self._poll_s = poll_s
        self._under_way: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._starting = asyncio.Semaphore(STARTING)
        self.stopping = False

    def wake(self) -> None:
        """Look into the outbox now. Call in the event loop's thread."""
        self._wake.set()

    def stop(self) -> None:
        """Take nothing more. Call in the event loop's thread."""
        self.stopping = True
        self.wake()

    async def serve(self) -> None:
        """Deliver until `stop`; returns when all that was taken is settled."""
        async with asyncio.TaskGroup() as deliveries:
            while not self.stopping:
                self._wake.clear()
                taken = await self._take()
                for delivery in taken:
                    self._under_way[delivery.endpoint] += 1
                    deliveries.create_task(self._deliver(delivery))
                if not taken:
                    await self._rest()

    async def _take(self) -> list[Delivery]:
        room = self._concurrency - self._under_way.total()
        if room <= 0:
            return []
        try:
            return await asyncio.to_thread(
                self._outbox.claim,
                room=room,
                cap=self._per_endpoint,
                under_way=dict(self._under_way),  # a copy: the claim runs in a thread
            )
        except (OperationalError, NoConnection) as error:
            log.warning("waiting", cause=summary(error))
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
                settled = await self._settler.settle(Try(delivery, answer, decision, took_s))
            _report(delivery, answer, decision, settled=settled, took_s=took_s)
        except SQLAlchemyError as error:
            # The lease runs out and the webhook is delivered again: twice is better than never.
            log.warning("unsettled", delivery=str(delivery.id), cause=summary(error))
        except Exception:  # out of here it would end all deliveries, and the courier with them
            log.exception("bug", delivery=str(delivery.id))
        finally:
            self._under_way[delivery.endpoint] -= 1
            self._under_way += Counter()  # drops the zeros
            self.wake()

    @asynccontextmanager
    async def _start(self) -> AsyncIterator[None]:
        """Wait for one of the places of the young, and give it back at the end or after a while."""
        await self._starting.acquire()
        timer = asyncio.get_running_loop().call_later(YOUNG_S, self._starting.release)
        try:
            yield
        finally:
            if timer.when() > asyncio.get_running_loop().time():
                timer.cancel()
                self._starting.release()


def run(settings: Settings) -> None:
    """Deliver webhooks until SIGTERM or SIGINT. Waits, and says so, while Postgres is away."""
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
        log.info("started")
        await courier.serve()
    resolver.close()
    engine.dispose()
    log.info("stopped")


async def listen(listener: Listener, courier: Courier) -> None:
    """Wake the courier when something is written. Only a shortcut: it looks every `POLL_S` too."""
    while not courier.stopping:
        try:
            if await asyncio.to_thread(listener.wait, POLL_S):
                courier.wake()
        except psycopg.OperationalError as error:
            log.warning("deaf", cause=summary(error))
            await asyncio.sleep(POLL_S)
    listener.close()


def _report(
    delivery: Delivery, answer: Answer, decision: Decision, *, settled: bool, took_s: float
) -> None:
    """One line for each try. Not the URL, which may hold a customer's secret: its endpoint."""
    log.info(
        "tried",
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
