"""What becomes of deliveries that wait, when their endpoint or their farm changes under them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from app.ids import made_at_s
from app.storage.objects import StorageError
from app.webhooks.endpoints import EndpointChange, Endpoints
from app.webhooks.history import Filter, History
from tests.integration.courier import work
from tests.integration.courier.endpoint import answer, endpoint
from tests.integration.courier.test_endpoints import added, state, tell
from tests.integration.courier.work import delivering

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.courier.records import Records

NOWHERE = "http://127.0.0.1:1/"


def failing(records: Records, endpoint_id: UUID) -> bool:
    """Whether the endpoint counts as failing."""
    row = Endpoints(records.engine).find(records.tenant_id, endpoint_id)
    return row["failing_since"] is not None


@pytest.mark.parametrize(
    "header",
    ["Sun, 01 Mar 99999999999999999999 12:02:00 GMT", "Sun, 01 Mar 2026 12:02:00 +9999999999999"],
)
def test_no_answer_stops_the_courier(records: Records, header: str) -> None:
    """A time that no calendar has costs its sender a try, and other customers nothing."""

    async def scenario() -> None:
        bad = answer("503 Busy", f"Retry-After: {header}")
        async with endpoint(bad) as spiteful, endpoint() as other:
            first = records.announce(spiteful.url)
            async with delivering(records.engine, poll_s=0.05):
                await spiteful.got(1)
                records.announce(other.url)
                await other.got(1)
            assert records.row(first)["last_status"] == 503

    asyncio.run(scenario())


@pytest.mark.parametrize(("now", "why"), [("disabled", "disabled"), ("deleted", "removed")])
def test_what_was_written_while_an_endpoint_stopped_is_not_sent(
    records: Records, now: str, why: str
) -> None:
    """A job that ended in that very moment still saw it enabled: its delivery is dead, unsent."""

    async def scenario() -> UUID:
        async with endpoint() as customer, endpoint() as other:
            endpoint_id, _ = added(records, customer.url)
            records.execute(
                "UPDATE endpoints SET state = :s, disabled_reason = 'x' WHERE id = :i",
                s=now,
                i=endpoint_id,
            )
            late = tell(records, customer.url, endpoint_id)
            records.announce(other.url)
            async with delivering(records.engine):
                await other.got(1)
            assert customer.requests == []
            return late

    row = records.row(asyncio.run(scenario()))
    assert (row["state"], row["last_error"]) == ("dead", f"the endpoint was {why}")


def test_what_waits_goes_to_the_new_url(records: Records) -> None:
    """Who mends a URL gets what waits at once, and starts with a clean slate."""

    async def scenario() -> None:
        async with endpoint() as customer:
            endpoint_id, _ = added(records, NOWHERE)
            waiting, sent = (tell(records, NOWHERE, endpoint_id) for _ in range(2))
            records.execute("UPDATE outbox SET next_try_at = now() + interval '9 h'")
            records.execute(
                "UPDATE outbox SET state = 'delivered', delivered_at = now() WHERE id = :i", i=sent
            )
            records.execute("UPDATE endpoints SET failing_since = now() - interval '4 d'")
            ends = Endpoints(records.engine)
            ends.change(records.tenant_id, endpoint_id, EndpointChange(description="the shop"))
            assert failing(records, endpoint_id)
            ends.change(records.tenant_id, endpoint_id, EndpointChange(url=customer.url))
            assert not failing(records, endpoint_id)
            async with delivering(records.engine):
                await customer.got(1)
            assert records.row(waiting)["state"] == "delivered"
            assert records.row(sent)["url"] == NOWHERE

    asyncio.run(scenario())


def test_stopping_an_endpoint_waits_for_no_delivery(records: Records) -> None:
    """One that a courier settles at that moment is left to it, and dead when its time comes."""

    async def scenario() -> None:
        async with endpoint() as customer, endpoint() as other:
            endpoint_id, _ = added(records, customer.url)
            held, waiting = (tell(records, customer.url, endpoint_id) for _ in range(2))
            with records.engine.begin() as courier:
                courier.execute(text("SELECT 1 FROM outbox WHERE id = :i FOR UPDATE"), {"i": held})
                Endpoints(records.engine).remove(records.tenant_id, endpoint_id)
                assert records.row(waiting)["state"] == "dead"
            assert records.row(held)["state"] == "pending"
            records.announce(other.url)
            async with delivering(records.engine):
                await other.got(1)
            assert records.row(held)["last_error"] == "the endpoint was removed"
            assert customer.requests == []

    asyncio.run(scenario())


def test_an_outage_of_the_farms_own_is_not_the_endpoints(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its images cannot be signed a delivery waits, and the endpoint is not blamed."""

    def away(key: str, lasts_s: int | None) -> str:
        raise StorageError(f"cannot sign {key} for {lasts_s}")

    async def scenario() -> tuple[UUID, UUID]:
        async with endpoint() as customer, endpoint() as other:
            endpoint_id, _ = added(records, customer.url)
            delivery = records.announce(
                customer.url, secret=None, images=1, endpoint_id=endpoint_id
            )
            records.announce(other.url)
            monkeypatch.setattr(work, "url_for", away)
            async with delivering(records.engine):
                await other.got(1)
            assert customer.requests == []
            return endpoint_id, delivery

    endpoint_id, delivery = asyncio.run(scenario())
    assert not failing(records, endpoint_id)
    row = records.row(delivery)
    assert (row["state"], row["tries"]) == ("pending", 1)
    assert "StorageError" in row["last_error"]


def test_news_of_a_disabled_endpoint_is_in_its_place_in_the_log(records: Records) -> None:
    """The log is sorted by ids, which say when they were made: these too."""

    async def scenario() -> None:
        async with endpoint(answer("410 Gone")) as gone, endpoint() as other:
            gone_id, _ = added(records, gone.url)
            added(records, other.url)
            tell(records, gone.url, gone_id)
            async with delivering(records.engine, poll_s=0.05):
                await other.got(1)
            assert state(records, gone_id)[0] == "disabled"

    asyncio.run(scenario())
    newest, before = History(records.engine).page(records.tenant_id, Filter())
    assert [newest["type"], before["type"]] == ["endpoint.disabled", "job.succeeded"]
    for row in (newest, before):
        assert abs(made_at_s(row["id"]) - row["created_at"].timestamp()) < 60
