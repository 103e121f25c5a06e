"""The courier, between a real Postgres and real endpoints on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

from standardwebhooks.webhooks import Webhook

from app.notify import Listener, Notices
from app.webhooks.courier import listen
from app.webhooks.deliveries import Delivery, Outbox
from renderfarm.webhooks import verify
from tests.integration.courier.endpoint import PATIENCE_S, Request, answer, endpoint
from tests.integration.courier.records import SECRET, Records
from tests.integration.courier.work import delivering

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Engine


def test_a_webhook_is_delivered_and_its_signature_verifies(records: Records) -> None:
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


def test_a_failed_delivery_is_tried_again_with_the_same_id(records: Records) -> None:
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


def test_retry_after_is_obeyed(records: Records) -> None:
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


def test_410_is_dead(records: Records) -> None:
    """An endpoint that answers 410 receives nothing more."""

    async def scenario() -> UUID:
        async with endpoint(answer("410 Gone")) as customer:
            made = records.announce(customer.url)
            async with delivering(records.engine):
                await customer.got(1)
            return made

    row = records.row(asyncio.run(scenario()))
    assert (row["state"], row["tries"], row["last_status"]) == ("dead", 1, 410)


def test_the_tenth_failure_is_the_last(records: Records) -> None:
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
    assert row["last_error"] == "10 tries failed; the last error: answered 302"


def test_a_private_endpoint_is_dead_without_a_connection(records: Records) -> None:
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


def test_a_row_that_cannot_be_signed_does_not_stop_the_others(records: Records) -> None:
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


def test_a_slow_endpoint_does_not_delay_others(records: Records) -> None:
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


def test_two_couriers_share_the_work(records: Records) -> None:
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


def test_the_outbox_wakes_the_courier(records: Records) -> None:
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
            Notices(engine).send([("outbox", "")])
            await customer.got(1)
            courier.stop()
            await ear

    engine = records.engine
    asyncio.run(scenario())
