"""5,000 webhooks, a third of the endpoints broken, the courier killed every two seconds.

70 % of the endpoints are healthy; the others answer 500, hang, or redirect to a canary on loopback.
Two couriers run; every two seconds one of them is killed with SIGKILL and started again. The long
waits between tries are cut short in the records, the short ones and the leases are waited for.
`make test` does the short form, `make kill-couriers` the long one (`killed_couriers_long`).
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from app.database import create_engine
from app.outbound.client import GuardedBackend, Outbound, Resolver
from app.webhooks.courier import Courier
from app.webhooks.deliveries import Outbox
from bench.figures import percentile
from tests.integration.courier.endpoint import answer

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    from tests.integration.courier.records import Records

KINDS = ("healthy",) * 7 + ("500", "hang", "redirect")
ENDPOINTS = 20
KILL_S = 2.0
LEASE_S = 6.0
LIMIT_S = 1.0
PATIENCE_S = 900.0
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([__name__])


@dataclass(frozen=True, slots=True)
class Found:
    """What became of it all. Latencies in seconds, from the row in the outbox to its receipt."""

    healthy: int
    delivered: int
    broken: int
    dead: int
    kills: int
    duplicates: int
    canary_touched: int
    p50_s: float
    p95_s: float
    took_s: float


@dataclass(slots=True)
class World:
    """The customers: who is healthy, and what came to them."""

    got: Counter[str] = field(default_factory=Counter)
    at: dict[str, float] = field(default_factory=dict)
    canary: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, kind: str, canary_port: int, connection: Connection) -> None:
        """One connection to an endpoint of that kind."""
        reader, writer = connection
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            message_id = head.partition("webhook-id: ")[2].partition("\r")[0]
            length = int(head.partition("content-length: ")[2].partition("\r")[0])
            await reader.readexactly(length)
            if kind == "hang":
                await self.ended.wait()
            elif kind == "redirect":
                where = f"Location: http://127.0.0.1:{canary_port}/"
                writer.write(answer("302 Found", where))
            elif kind == "500":
                writer.write(answer("500 Oops"))
            else:
                self.at.setdefault(message_id, time.time())
                self.got[message_id] += 1
                writer.write(answer("200 OK"))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the courier was killed
        finally:
            writer.close()

    async def touch(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody followed a redirect."""
        self.canary += 1
        writer.close()


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def courier(url: str, lease_s: float, limit_s: float, ready: Event) -> None:
    """A courier of its own process, until it is killed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))

    async def deliver() -> None:
        engine = create_engine(url)
        async with Outbound(
            GuardedBackend(Resolver(8), allow_private=True), limit_s=limit_s
        ) as outbound:
            outbox = Outbox(engine, lease_s=lease_s)
            work = Courier(outbox, outbound, lambda key, _: key, poll_s=0.2)
            ready.set()
            await work.serve()

    asyncio.run(deliver())


class Killer:
    """Keeps two couriers at work and kills one of them every `kill_s`.

    The time counts from when the victim is at work: on a busy machine none would ever be.
    """

    def __init__(self, url: str, kill_s: float, lease_s: float, limit_s: float) -> None:
        self.kills = 0
        self._work = url, lease_s, limit_s
        self._kill_s = kill_s
        self._stop = threading.Event()
        self._couriers = [self._start(), self._start()]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _start(self) -> tuple[multiprocessing.process.BaseProcess, Event]:
        ready = processes.Event()
        process = processes.Process(target=courier, args=(*self._work, ready), daemon=True)
        process.start()
        return process, ready

    def _run(self) -> None:
        while not self._stop.is_set():
            victim, ready = self._couriers[0]
            if not ready.wait(0.1) or self._stop.wait(self._kill_s):
                continue
            self._couriers.pop(0)
            self._kill(victim)
            self.kills += 1
            self._couriers.append(self._start())

    def _kill(self, process: multiprocessing.process.BaseProcess) -> None:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()

    def close(self) -> None:
        """Kill both."""
        self._stop.set()
        self._thread.join()
        for process, _ in self._couriers:
            self._kill(process)


async def run(
    records: Records,
    webhooks: int,
    per_s: float,
    *,
    kill_s: float = KILL_S,
    lease_s: float = LEASE_S,
    limit_s: float = LIMIT_S,
) -> Found:
    """All of it, on one database that has a tenant and a job; asserts nothing."""
    world, began = World(), time.monotonic()
    async with AsyncExitStack() as stack:
        urls, canary_port = await _open(world, stack)
        killer = await asyncio.to_thread(Killer, records.url, kill_s, lease_s, limit_s)
        stack.push_async_callback(asyncio.to_thread, killer.close)
        stack.callback(world.ended.set)
        written: dict[str, tuple[str, float]] = {}
        for n in range(webhooks):
            kind, url = urls[n % len(urls)]
            made = await asyncio.to_thread(records.announce, url)
            written[str(made)] = (kind, time.time())
            await asyncio.sleep(max(0.0, began + (n + 1) / per_s - time.monotonic()))
        await _settled(records, lease_s)
        assert canary_port
    healthy = {made: at for made, (kind, at) in written.items() if kind == "healthy"}
    latencies = [world.at[made] - at for made, at in healthy.items() if made in world.at]
    states = {str(row["id"]): row["state"] for row in records.rows("SELECT id, state FROM outbox")}
    return Found(
        healthy=len(healthy),
        delivered=sum(states[made] == "delivered" and made in world.got for made in healthy),
        broken=len(written) - len(healthy),
        dead=sum(states[made] == "dead" for made in written if made not in healthy),
        kills=killer.kills,
        duplicates=sum(count - 1 for count in world.got.values()),
        canary_touched=world.canary,
        p50_s=percentile(latencies, 50),
        p95_s=percentile(latencies, 95),
        took_s=time.monotonic() - began,
    )


async def _open(world: World, stack: AsyncExitStack) -> tuple[list[tuple[str, str]], int]:
    """Every endpoint's kind and URL, and the canary's port."""
    canary = await stack.enter_async_context(
        await asyncio.start_server(world.touch, "127.0.0.1", 0)
    )
    canary_port: int = canary.sockets[0].getsockname()[1]
    urls = []
    for n in range(ENDPOINTS):
        kind = KINDS[n % len(KINDS)]

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str = kind
        ) -> None:
            await world.serve(kind, canary_port, (reader, writer))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        stack.callback(server.close)
        urls.append((kind, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"))
    return urls, canary_port


async def _settled(records: Records, lease_s: float) -> None:
    """Until nothing is pending. Waits that are longer than a lease are cut short."""
    give_up_at = time.monotonic() + PATIENCE_S
    while (await asyncio.to_thread(records.states)).get("pending"):
        assert time.monotonic() < give_up_at, "some are still pending"
        await asyncio.to_thread(
            records.execute,
            """UPDATE outbox SET next_try_at = now()
               WHERE state = 'pending' AND next_try_at > now() + make_interval(secs => :lease)""",
            lease=lease_s + 1,
        )
        await asyncio.sleep(0.2)


def verdict(found: Found) -> list[str]:
    """What was lost, given up wrongly or followed; what depends on the machine is `slow`'s."""
    wrong = {
        "some healthy endpoints did not get theirs": found.delivered != found.healthy,
        "some to broken endpoints are not dead": found.dead != found.broken,
        "the canary was touched": found.canary_touched > 0,
        "no courier was killed": found.kills == 0,
    }
    return [text for text, is_so in wrong.items() if is_so]
