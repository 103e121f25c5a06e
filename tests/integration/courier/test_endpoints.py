"""A tenant's endpoints, between the courier and real listeners on loopback."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from standardwebhooks.webhooks import Webhook

from app.tenants.tenants import find_by_name
from app.tenants.webhook_secrets import rotate_secret, webhook_secret
from app.webhooks.endpoints import EndpointChange, EndpointRequest, Endpoints
from app.webhooks.history import Filter, History
from renderfarm import WebhookError
from renderfarm.webhooks import verify
from tests.integration.courier.endpoint import Request, answer, endpoint
from tests.integration.courier.work import delivering

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.courier.records import Records


def added(records: Records, url: str, *events: str) -> tuple[UUID, str]:
    """An endpoint of the tenant, and its secret."""
    asked = EndpointRequest(url=url, events=list(events))
    row, secret = Endpoints(records.engine).add(records.tenant_id, asked)
    return row["id"], secret


def tell(records: Records, url: str, endpoint_id: UUID) -> UUID:
    """A delivery to an endpoint."""
    return records.announce(url, secret=None, endpoint_id=endpoint_id)


def state(records: Records, endpoint_id: UUID) -> tuple[str, str | None]:
    """Whether it is enabled, and why not."""
    row = Endpoints(records.engine).find(records.tenant_id, endpoint_id)
    return row["state"], row["disabled_reason"]


def test_while_a_secret_is_replaced_both_sign(records: Records) -> None:
    """A receiver may hold the old or the new one, with our SDK or the official library."""

    async def scenario() -> tuple[Request, str, str]:
        async with endpoint() as customer:
            endpoint_id, old = added(records, customer.url)
            tell(records, customer.url, endpoint_id)
            _, new = Endpoints(records.engine).rotate(records.tenant_id, endpoint_id, 3600)
            async with delivering(records.engine):
                await customer.got(1)
            return customer.requests[0], old, new

    sent, old, new = asyncio.run(scenario())
    assert old != new
    for secret in (old, new):
        assert verify(sent.body, sent.headers, secret).type == "job.succeeded"
        assert Webhook(secret).verify(sent.body, dict(sent.headers)) == json.loads(sent.body)
    assert len(sent.headers["webhook-signature"].split()) == 2


def test_after_the_grace_the_old_one_is_worth_nothing(records: Records) -> None:
    """Then only the new secret signs, what was written before included; of a tenant's, too."""

    async def scenario() -> list[Request]:
        async with endpoint() as customer:
            endpoint_id, old = added(records, customer.url)
            tell(records, customer.url, endpoint_id)
            records.announce(customer.url, secret=None)
            tenant = find_by_name(records.engine, "default")
            olds.extend([old, webhook_secret(records.engine, tenant.id)])
            _, new = Endpoints(records.engine).rotate(records.tenant_id, endpoint_id, 0)
            news.extend([new, rotate_secret(records.engine, tenant.id, 0)])
            async with delivering(records.engine):
                await customer.got(2)
            return customer.requests

    olds: list[str] = []
    news: list[str] = []
    for sent in asyncio.run(scenario()):
        fits = []
        for secret in (*olds, *news):
            try:
                verify(sent.body, sent.headers, secret)
            except WebhookError:
                continue
            fits.append(secret)
        assert len(fits) == 1
        assert fits[0] in news


def test_410_disables_the_endpoint(records: Records) -> None:
    """Its pending deliveries are given up, and the tenant's other endpoints are notified."""

    async def scenario() -> None:
        async with endpoint(answer("410 Gone")) as gone, endpoint() as other:
            gone_id, _ = added(records, gone.url)
            other_id, other_secret = added(records, other.url)
            first = tell(records, gone.url, gone_id)
            waiting = tell(records, gone.url, gone_id)
            records.execute(
                "UPDATE outbox SET next_try_at = now() + interval '1 h' WHERE id = :i", i=waiting
            )
            async with delivering(records.engine, poll_s=0.05):
                await other.got(1)
            assert state(records, gone_id) == (
                "disabled", "it answered 410 Gone",
            )  # fmt: skip
            assert (records.row(first)["state"], records.row(waiting)["state"]) == ("dead", "dead")
            event = verify(other.requests[0].body, other.requests[0].headers, other_secret)
            assert (event.type, event.data["id"]) == ("endpoint.disabled", str(gone_id))
            assert state(records, other_id) == ("enabled", None)

    asyncio.run(scenario())


@pytest.mark.parametrize(("days", "after"), [(4, "enabled"), (5, "disabled")])
def test_days_of_failure_disable_the_endpoint(records: Records, days: int, after: str) -> None:
    """Five days after its first failure since a success, and not before."""

    async def scenario() -> UUID:
        async with endpoint(answer("500 Oops")) as customer:
            endpoint_id, _ = added(records, customer.url)
            records.execute(
                "UPDATE endpoints SET failing_since = now() - make_interval(days => :d)", d=days
            )
            tell(records, customer.url, endpoint_id)
            async with delivering(records.engine):
                await customer.got(1)
            return endpoint_id

    assert state(records, asyncio.run(scenario()))[0] == after


def test_a_success_ends_the_count(records: Records) -> None:
    """An endpoint that answers again has failed since never."""

    async def scenario() -> list[bool]:
        async with endpoint(answer("500 Oops"), answer("200 OK")) as customer:
            endpoint_id, _ = added(records, customer.url)
            failing = []
            for n in range(2):
                tell(records, customer.url, endpoint_id)
                records.make_due()
                async with delivering(records.engine):
                    await customer.got(n + 1)
                records.execute("UPDATE outbox SET next_try_at = now() + interval '1 h'")
                row = Endpoints(records.engine).find(records.tenant_id, endpoint_id)
                failing.append(row["failing_since"] is not None)
            return failing

    assert asyncio.run(scenario()) == [True, False]


def test_each_try_is_logged(records: Records) -> None:
    """With its status, how long it took, and the first kilobyte of the answer."""

    async def scenario() -> UUID:
        async with endpoint(answer("503 Busy", body="x" * 3000), answer("200 OK")) as customer:
            made = records.announce(customer.url)
            for n in (1, 2):
                records.make_due()
                async with delivering(records.engine):
                    await customer.got(n)
            return made

    row, tries = History(records.engine).find(records.tenant_id, asyncio.run(scenario()))
    assert [each["status"] for each in tries] == [503, 200]
    assert [len(each["answer"]) for each in tries] == [1024, 0]
    assert tries[0]["error"].startswith("answered 503")
    assert all(each["took_s"] > 0 for each in tries)
    assert row["state"] == "delivered"


def test_what_was_given_up_can_be_sent_again(records: Records) -> None:
    """One by its id, or all since a time; under the same id, and not while it is disabled."""

    async def scenario() -> None:
        async with endpoint() as customer:
            endpoint_id, _ = added(records, customer.url)
            both = [tell(records, customer.url, endpoint_id) for _ in range(2)]
            records.execute("UPDATE outbox SET state = 'dead'")
            ends, history = Endpoints(records.engine), History(records.engine)
            off, on = EndpointChange(enabled=False), EndpointChange(enabled=True)
            ends.change(records.tenant_id, endpoint_id, off)
            assert not history.replay(records.tenant_id, both[0])
            ends.change(records.tenant_id, endpoint_id, on)
            assert history.replay(records.tenant_id, both[0])
            async with delivering(records.engine):
                await customer.got(1)
            now = datetime.now(UTC)
            assert history.replay_since(records.tenant_id, now + timedelta(hours=1), Filter()) == 0
            since = now - timedelta(hours=1)
            assert history.replay_since(records.tenant_id, since, Filter(state="dead")) == 1
            async with delivering(records.engine):
                await customer.got(2)
            assert history.replay_since(records.tenant_id, since, Filter()) == 2
            async with delivering(records.engine):
                await customer.got(4)
            ids = [each.headers["webhook-id"] for each in customer.requests]
            assert sorted(ids) == sorted([str(each) for each in both] * 2)

    asyncio.run(scenario())
    assert records.states() == {"delivered": 2}


def test_a_tenants_urls_last_as_long_as_it_wants(records: Records) -> None:
    """Images in webhooks are signed for the tenant's own time."""
    records.execute("UPDATE tenants SET url_expiry_s = 99")

    async def scenario() -> Request:
        async with endpoint() as customer:
            records.announce(customer.url, images=1)
            async with delivering(records.engine):
                await customer.got(1)
            return customer.requests[0]

    event = json.loads(asyncio.run(scenario()).body)
    assert event["data"]["images"][0]["url"].endswith("?lasts=99")


def test_a_removed_endpoint_gets_nothing_more(records: Records) -> None:
    """What waits for it is dead, and its log stays."""
    endpoint_id, _ = added(records, "http://127.0.0.1:1/")
    waiting = tell(records, "http://127.0.0.1:1/", endpoint_id)
    Endpoints(records.engine).remove(records.tenant_id, endpoint_id)
    assert records.row(waiting)["last_error"] == "the endpoint was removed"
    assert Endpoints(records.engine).of(records.tenant_id) == []
    (kept,) = History(records.engine).page(records.tenant_id, Filter(endpoint_id=endpoint_id))
    assert kept["state"] == "dead"
