"""The courier, between a real Postgres and real endpoints on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, RowMapping, text
from standardwebhooks.webhooks import Webhook

from app.courier import Courier, listen
from app.database import create_engine, migrate
from app.jobs.ids import new_id
from app.jobs.notices import Listener
from app.local.postgres import Postgres
from app.webhooks.deliveries import Delivery, Outbox
from app.webhooks.outbound import GuardedBackend, Outbound, Resolver
from app.webhooks.schedule import Answered, Delivered, RetryAt
from renderfarm.webhooks import verify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path
    from uuid import UUID

PATIENCE_S = 60.0  # only a test that fails waits this long
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
IMAGE = {
    "width": 8,
    "height": 8,
    "content_type": "image/png",
    "bytes": 1,
    "sha256": "ab",
    "seed": 7,
}
PROCESS = """
import os
from app.courier import run
from app.settings import Settings
run(Settings.from_environment(os.environ))
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What an endpoint was sent."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Endpoint:
    """A customer's endpoint: gives its answers in turn, then the last one for ever.

    While `open` is not set it reads requests and does not answer.
    """

    answers: list[bytes]
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook?token=secret"

    async def got(self, count: int) -> None:
        """Until so many requests have come."""
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(lambda: len(self.requests) >= count)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
            headers = {name.lower(): value for name, _, value in lines}
            body = await reader.readexactly(int(headers["content-length"]))
            async with self.changed:
                self.requests.append(Request(headers, body))
                self.changed.notify_all()
            await self.open.wait()
            writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the courier was killed, which is what the test is about
        finally:
            writer.close()


def answer(status: str, *headers: str, body: str = "") -> bytes:
    """An HTTP answer, after which the connection ends."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", body]).encode()


@asynccontextmanager
async def endpoint(*answers: bytes, is_open: bool = True) -> AsyncIterator[Endpoint]:
    """A listening endpoint."""
    customer = Endpoint(list(answers) or [answer("200 OK")])
    if is_open:
        customer.open.set()
    server = await asyncio.start_server(customer.handle, "127.0.0.1", 0)
    customer.port = server.sockets[0].getsockname()[1]
    try:
        yield customer
    finally:
        customer.open.set()
        server.close()


@asynccontextmanager
async def delivering(
    engine: Engine, *, outbox: Outbox | None = None, allow_private: bool = True, **options: Any
) -> AsyncIterator[Courier]:
    """A courier at work. On leaving it is told to stop, and has settled all that it took."""
    resolver = Resolver(threads=4)
    async with Outbound(GuardedBackend(resolver, allow_private=allow_private)) as outbound:
        courier = Courier(
            outbox or Outbox(engine), outbound, "https://cdn.test/{}".format, **options
        )
        serving = asyncio.create_task(courier.serve())
        try:
            yield courier
        finally:
            courier.stop()
            async with asyncio.timeout(PATIENCE_S):
                await serving
    resolver.close()


@dataclass(frozen=True, slots=True)
class Records:
    """The database, with one tenant and one job in it."""

    engine: Engine
    url: str
    tenant_id: UUID
    job_id: UUID

    def announce(self, url: str, *, secret: str = SECRET, images: int = 0) -> UUID:
        """Write an outbox row, as the finishing transaction does; gives its id."""
        made = new_id()
        at = "2026-03-01T12:00:00+00:00"
        keys = [{"key": f"t/j/1/{n}.png", **IMAGE} for n in range(images)]
        job = {"id": str(self.job_id), "status": "succeeded", "created_at": at, "images": keys}
        payload = {"type": "job.succeeded", "timestamp": at, "data": job}
        statement = """INSERT INTO outbox (id, job_id, tenant_id, type, url, secret, payload)
                       VALUES (:id, :job, :tenant, 'job.succeeded', :url, :secret, :payload)"""
        values = {"id": made, "job": self.job_id, "tenant": self.tenant_id}
        self.execute(statement, **values, url=url, secret=secret, payload=json.dumps(payload))
        return made

    def execute(self, statement: str, **values: Any) -> None:
        """Run and commit a statement."""
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def row(self, delivery: UUID) -> RowMapping:
        """An outbox row as it stands, with the seconds until its next try."""
        query = """SELECT *, extract(epoch FROM next_try_at - now())::float AS wait_s
                   FROM outbox WHERE id = :id"""
        with self.engine.connect() as connection:
            return connection.execute(text(query), {"id": delivery}).mappings().one()

    def states(self) -> dict[str, int]:
        """How many rows are in each state."""
        with self.engine.connect() as connection:
            found = connection.execute(
                text("SELECT state, count(*) AS n FROM outbox GROUP BY state")
            )
            return {row.state: row.n for row in found}

    def make_due(self) -> None:
        """Let the time of every next try come, as if the clock had been put forward."""
        self.execute("UPDATE outbox SET next_try_at = now() WHERE state = 'pending'")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Postgres with our schema; gives its URL."""
    with Postgres(tmp_path_factory.mktemp("postgres")) as postgres:
        migrate(postgres.url)
        yield postgres.url


@pytest.fixture
def records(database: str) -> Iterator[Records]:
    """An empty outbox."""
    engine = create_engine(database)
    made = Records(engine, database, new_id(), new_id())
    made.execute("TRUNCATE tenants CASCADE")
    made.execute(
        "INSERT INTO tenants (id, name, webhook_secret) VALUES (:id, 'default', :secret)",
        id=made.tenant_id,
        secret=SECRET,
    )
    made.execute(
        """INSERT INTO jobs (id, tenant_id, idempotency_key, request_hash, request, model, steps,
                             deadline_at)
           VALUES (:id, :tenant, 'k', :hash, '{}', 'scenes', 20, now() + interval '1 hour')""",
        id=made.job_id,
        tenant=made.tenant_id,
        hash=bytes(32),
    )
    yield made
    engine.dispose()


def test_a_webhook_is_delivered_and_its_signature_verifies(records: Records):
    """A 200 delivers; our SDK and the official library both accept what was sent."""

    async def scenario() -> Request:
        async with endpoint() as customer:
            made.append(records.announce(customer.url, images=2))
            async with delivering(records.engine):
                await customer.got(1)
            return customer.requests[0]

    made: list[UUID] = []
    sent = asyncio.run(scenario())
    event = verify(sent.body, sent.headers, SECRET)
    assert Webhook(SECRET).verify(sent.body, dict(sent.headers)) == json.loads(sent.body)
    assert (event.type, event.id) == ("job.succeeded", str(made[0]))
    assert sent.headers["content-type"] == "application/json"
    assert b'"type":"job.succeeded"' in sent.body
    urls = [image["url"] for image in event.data["images"]]
    assert urls == ["https://cdn.test/t/j/1/0.png", "https://cdn.test/t/j/1/1.png"]
    assert b'"key"' not in sent.body
    row = records.row(made[0])
    assert (row["state"], row["tries"], row["last_status"]) == ("delivered", 1, 200)
    assert row["delivered_at"] is not None
    assert row["last_error"] is None


def test_a_failed_delivery_is_tried_again_with_the_same_id(records: Records):
    """After a 500 the webhook waits its turn, and then goes out again as the same message."""

    async def scenario() -> None:
        async with endpoint(answer("500 Oops", body="no\x00 disk"), answer("204 Fine")) as customer:
            made = records.announce(customer.url)
            async with delivering(records.engine):
                await customer.got(1)
            row = records.row(made)
            assert (row["state"], row["tries"], row["last_status"]) == ("pending", 1, 500)
            assert row["last_error"] == "answered 500: no  disk"
            assert 0 < row["wait_s"] <= 5.5
            records.make_due()
            async with delivering(records.engine):
                await customer.got(2)
            assert records.row(made)["state"] == "delivered"
            assert {r.headers["webhook-id"] for r in customer.requests} == {str(made)}

    asyncio.run(scenario())


def test_retry_after_is_obeyed(records: Records):
    """An endpoint that asks for an hour is left alone for an hour."""

    async def scenario() -> UUID:
        async with endpoint(answer("503 Busy", "Retry-After: 3600")) as customer:
            made = records.announce(customer.url)
            async with delivering(records.engine):
                await customer.got(1)
            return made

    row = records.row(asyncio.run(scenario()))
    assert row["state"] == "pending"
    assert 3500 < row["wait_s"] <= 3600


def test_410_is_dead(records: Records):
    """An endpoint that answers 410 is not bothered again."""

    async def scenario() -> UUID:
        async with endpoint(answer("410 Gone")) as customer:
            made = records.announce(customer.url)
            async with delivering(records.engine):
                await customer.got(1)
            return made

    row = records.row(asyncio.run(scenario()))
    assert (row["state"], row["tries"], row["last_status"]) == ("dead", 1, 410)


def test_the_tenth_failure_is_the_last(records: Records):
    """A delivery that has failed nine times dies with the tenth."""

    async def scenario() -> UUID:
        async with endpoint(answer("302 Found", "Location: /elsewhere")) as customer:
            made = records.announce(customer.url)
            records.execute("UPDATE outbox SET tries = 9")
            async with delivering(records.engine):
                await customer.got(1)
            assert len(customer.requests) == 1
            return made

    row = records.row(asyncio.run(scenario()))
    assert (row["state"], row["tries"]) == ("dead", 10)
    assert row["last_error"] == "10 tries failed, the last so: answered 302"


def test_a_private_endpoint_is_dead_without_a_connection(records: Records):
    """A farm that is open to customers posts to no private address, and says why."""

    async def scenario() -> UUID:
        async with endpoint() as private:
            made = records.announce(private.url)
            async with asyncio.timeout(PATIENCE_S), delivering(records.engine, allow_private=False):
                while (await asyncio.to_thread(records.row, made))["state"] == "pending":
                    pass
            assert private.requests == []
            return made

    row = records.row(asyncio.run(scenario()))
    assert (row["state"], row["last_error"]) == ("dead", "the URL must begin with https://")


def test_a_row_that_cannot_be_signed_does_not_stop_the_others(records: Records):
    """A broken secret costs its own delivery a try; the next one is delivered."""

    async def scenario() -> UUID:
        async with endpoint() as customer:
            broken = records.announce(customer.url, secret="not a secret")
            records.announce(customer.url)
            async with delivering(records.engine):
                await customer.got(1)
            return broken

    row = records.row(asyncio.run(scenario()))
    assert (row["state"], row["tries"]) == ("pending", 1)
    assert row["last_error"].startswith("the farm could not send this webhook")
    assert records.states() == {"pending": 1, "delivered": 1}


def test_a_slow_endpoint_does_not_delay_others(records: Records):
    """While one customer's endpoint hangs with a backlog, everybody else's webhooks arrive."""

    async def scenario() -> None:
        async with endpoint(is_open=False) as slow, endpoint() as healthy:
            for _ in range(40):
                records.announce(slow.url)
            for _ in range(20):
                records.announce(healthy.url)
            async with delivering(records.engine, concurrency=10, per_endpoint=4):
                await healthy.got(20)
                assert len(slow.requests) <= 4
                slow.open.set()
                await slow.got(40)

    asyncio.run(scenario())
    assert records.states() == {"delivered": 60}


def test_two_couriers_share_the_work(records: Records):
    """Couriers that run side by side deliver each webhook once."""

    async def scenario() -> list[str]:
        async with endpoint() as customer:
            for _ in range(100):
                records.announce(customer.url)
            async with delivering(records.engine), delivering(records.engine):
                await customer.got(100)
            return [request.headers["webhook-id"] for request in customer.requests]

    ids = asyncio.run(scenario())
    assert len(ids) == len(set(ids)) == 100
    assert records.states() == {"delivered": 100}


class Watched(Outbox):
    """An outbox that tells when a claim found nothing."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.found_empty = threading.Event()

    def claim(self, **values: Any) -> list[Delivery]:
        """Claim, and tell."""
        taken = super().claim(**values)
        if not taken:
            self.found_empty.set()
        return taken


def test_the_outbox_wakes_the_courier(records: Records):
    """A row that is written while the courier rests is delivered long before its next look."""

    async def scenario() -> None:
        listener, outbox = Listener(records.url, "outbox"), Watched(engine)
        await asyncio.to_thread(listener.wait, 0.01)  # connected: nothing is missed from here on
        async with (
            endpoint() as customer,
            delivering(engine, outbox=outbox, poll_s=3600) as courier,
        ):
            ear = asyncio.create_task(listen(listener, courier))
            await asyncio.to_thread(outbox.found_empty.wait, PATIENCE_S)
            records.announce(customer.url)
            await customer.got(1)
            courier.stop()
            await ear

    engine = records.engine
    asyncio.run(scenario())


def test_many_claims_at_once_take_each_row_once(records: Records):
    """However many couriers reach for the same rows, each row is given to one of them."""
    outbox, together = Outbox(records.engine), threading.Barrier(8)
    for _ in range(200):
        records.announce("http://busy.test/")

    def claims() -> list[UUID]:
        together.wait()
        taken: list[UUID] = []
        while found := outbox.claim(room=3, cap=200, under_way={}):
            taken += [delivery.id for delivery in found]
        return taken

    with ThreadPoolExecutor(8) as threads:
        takers = [threads.submit(claims) for _ in range(8)]
        ids = [made for taker in takers for made in taker.result()]
    assert len(ids) == len(set(ids)) == 200


def test_who_lost_the_lease_settles_nothing(records: Records):
    """A courier that comes late cannot overwrite what another has taken since."""
    outbox = Outbox(records.engine)
    made = records.announce("http://127.0.0.1/")

    def claim() -> Any:
        (delivery,) = outbox.claim(room=9, cap=9, under_way={})
        return delivery

    late = claim()
    records.make_due()
    holder = claim()
    assert not outbox.settle(late, Answered(500), RetryAt(5))
    assert records.row(made)["tries"] == 0
    assert outbox.settle(holder, Answered(200), Delivered())
    assert not outbox.settle(late, Answered(500), RetryAt(5))
    assert records.row(made)["state"] == "delivered"


def test_a_full_endpoint_is_passed_over(records: Records):
    """A claim takes no more of an endpoint than it has room for, counting what is under way."""
    outbox = Outbox(records.engine)
    for _ in range(5):
        records.announce("http://busy.test/a?x#y")
        records.announce("http://BUSY.test/b")
        records.announce("http://idle.test?c")
    first = outbox.claim(room=9, cap=3, under_way={})
    busy, idle = (f"{records.tenant_id} {name}.test" for name in ("busy", "idle"))
    assert sorted(d.endpoint for d in first) == sorted([busy] * 3 + [idle] * 3)
    second = outbox.claim(room=9, cap=3, under_way={busy: 3, idle: 1})
    assert [d.endpoint for d in second] == [idle] * 2
    assert len(outbox.claim(room=1, cap=3, under_way={})) == 1


async def start(records: Records, directory: Path) -> asyncio.subprocess.Process:
    """A courier in a process of its own."""
    variables = {
        "RENDERFARM_DATABASE_URL": records.url,
        "RENDERFARM_BROKER_URL": "redis://127.0.0.1:1/0",
        "RENDERFARM_STORAGE_URL": f"file://{directory}",
        "RENDERFARM_SECRET": "sixteen letters!",
        "RENDERFARM_WEBHOOK_ALLOW_PRIVATE": "1",
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, env={**os.environ, **variables}
    )


def test_a_courier_killed_in_mid_delivery_loses_nothing(records: Records, tmp_path: Path):
    """After kill -9 the lease runs out, and another courier delivers the same message."""

    async def scenario() -> None:
        async with endpoint(is_open=False) as customer:
            made = records.announce(customer.url)
            process = await start(records, tmp_path)
            await customer.got(1)
            process.kill()
            await process.wait()
            row = records.row(made)
            assert (row["state"], row["tries"]) == ("pending", 0)
            assert row["wait_s"] > 0
            records.make_due()
            customer.open.set()
            async with delivering(records.engine):
                await customer.got(2)
            assert {r.headers["webhook-id"] for r in customer.requests} == {str(made)}

    asyncio.run(scenario())
    assert records.states() == {"delivered": 1}


def test_sigterm_finishes_what_is_under_way(records: Records, tmp_path: Path):
    """A courier that is told to stop waits for the answers, settles them, and exits with 0."""

    async def scenario() -> int:
        async with endpoint(is_open=False) as customer:
            records.announce(customer.url)
            process = await start(records, tmp_path)
            await customer.got(1)
            process.send_signal(signal.SIGTERM)
            customer.open.set()
            async with asyncio.timeout(PATIENCE_S):
                return await process.wait()

    assert asyncio.run(scenario()) == 0
    assert records.states() == {"delivered": 1}
