"""`/v1/endpoints` and `/v1/deliveries`, as clients see them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from app.errors import InvalidRequest
from app.webhooks.endpoints import MAX_ENDPOINTS, EndpointRequest, Endpoints
from tests.integration.api_server import client, fields, problem, server, stranger

if TYPE_CHECKING:
    import httpx

    from tests.integration.records import FarmDatabase

__all__ = ["client", "server", "stranger"]
URL = "https://shop.example/hook"
THREADS = 8


def added(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    """A new endpoint."""
    response = client.post("/v1/endpoints", json={"url": URL, **fields})
    assert response.status_code == 201, response.text
    return response.json()


def test_an_endpoint_is_added_shown_changed_and_removed(client: httpx.Client) -> None:
    """Its secret is in the answer that made it, and under its own path, and nowhere else."""
    made = added(client, events=["job.failed"], description="for the shop")
    path = f"/v1/endpoints/{made['id']}"
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert client.get(path).json() == made
    assert client.get("/v1/endpoints").json() == {"endpoints": [made]}
    assert client.get(f"{path}/secret").json() == {"secret": secret}
    changed = client.patch(path, json={"events": [], "enabled": False}).json()
    assert (changed["events"], changed["state"]) == ([], "disabled")
    assert changed["description"] == "for the shop"
    assert client.patch(path, json={"enabled": True}).json()["state"] == "enabled"
    assert client.delete(path).status_code == 204
    problem(client.get(path), 404, "not_found")
    assert client.get("/v1/endpoints").json() == {"endpoints": []}


def test_a_rotated_secret_is_another(client: httpx.Client) -> None:
    """The answer has it; a time of grace that is none is refused."""
    made = added(client)
    path = f"/v1/endpoints/{made['id']}/rotate"
    assert client.post(path).json()["secret"] != made["secret"]
    assert client.post(path, json={"grace_s": 0}).status_code == 200
    refused: list[Any] = [{"grace_s": -1}, {"grace_s": True}, {"grace_s": "1"}, {"x": 1}, []]
    for wrong in refused:
        assert fields(client.post(path, json=wrong)) == ["grace_s"]


def test_a_tenant_has_so_many_endpoints_and_no_more(farm: FarmDatabase) -> None:
    """The limit holds under concurrent additions; a removed endpoint makes room."""
    asked = EndpointRequest(url=URL)
    ends = Endpoints(farm.engine)
    ends.add(farm.other.id, asked)
    for _ in range(MAX_ENDPOINTS - 2):
        ends.add(farm.tenant.id, asked)
    together = threading.Barrier(THREADS)

    def add(_: int) -> bool:
        together.wait()
        try:
            ends.add(farm.tenant.id, asked)
        except InvalidRequest:
            return False
        return True

    with ThreadPoolExecutor(THREADS) as threads:
        assert sum(threads.map(add, range(THREADS))) == 2
    assert len(ends.of(farm.tenant.id)) == MAX_ENDPOINTS
    ends.remove(farm.tenant.id, ends.of(farm.tenant.id)[0]["id"])
    ends.add(farm.tenant.id, asked)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": "http://shop.example/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": URL, "events": ["job.exploded"]}, "events"),
        ({"url": URL, "colour": "red"}, "colour"),
    ],
)
def test_a_bad_endpoint_is_refused_by_its_field(
    client: httpx.Client, body: dict[str, Any], field: str
) -> None:
    """Nothing is kept of it."""
    assert fields(client.post("/v1/endpoints", json=body))[0].startswith(field)
    assert client.get("/v1/endpoints").json() == {"endpoints": []}


def test_anothers_endpoints_and_deliveries_do_not_exist(
    client: httpx.Client, stranger: httpx.Client, farm: FarmDatabase
) -> None:
    """They are answered like ones that never were."""
    path = f"/v1/endpoints/{added(client)['id']}"
    for method, tail in (("GET", ""), ("GET", "/secret"), ("DELETE", ""), ("POST", "/rotate")):
        problem(stranger.request(method, path + tail), 404, "not_found")
    problem(stranger.patch(path, json={"enabled": False}), 404, "not_found")
    farm.finish(farm.claimed())
    (delivery,) = client.get("/v1/deliveries").json()["deliveries"]
    problem(stranger.get(f"/v1/deliveries/{delivery['id']}"), 404, "not_found")
    problem(stranger.post(f"/v1/deliveries/{delivery['id']}/replay"), 404, "not_found")
    assert stranger.get("/v1/deliveries").json()["deliveries"] == []
    problem(client.get(f"/v1/deliveries/{uuid4()}"), 404, "not_found")


def test_each_endpoint_hears_of_what_it_asked_for(client: httpx.Client, farm: FarmDatabase) -> None:
    """An endpoint receives every job's events, in addition to the job's own URL."""
    final, started, other = (
        added(client), added(client, events=["job.started"]), added(client, events=["job.failed"]),
    )  # fmt: skip
    hook = {"url": "https://one.example/", "events": ["job.succeeded"]}
    claim = farm.claimed(webhook=hook)
    farm.finish(claim)
    told = client.get("/v1/deliveries", params={"job": str(claim.id)}).json()["deliveries"]
    assert {(each["endpoint_id"], each["type"]) for each in told} == {
        (None, "job.succeeded"), (final["id"], "job.succeeded"), (started["id"], "job.started"),
    }  # fmt: skip
    assert client.get("/v1/deliveries", params={"endpoint": other["id"]}).json() == {
        "deliveries": [], "cursor": None,
    }  # fmt: skip
    assert farm.breaches() == []


def test_deliveries_are_paged_shown_and_replayed(client: httpx.Client, farm: FarmDatabase) -> None:
    """Newest first; one shows its payload and tries; a replay makes it pending again."""
    endpoint = added(client)
    for _ in range(3):
        farm.finish(farm.claimed())
    first = client.get("/v1/deliveries", params={"limit": 2}).json()
    second = client.get("/v1/deliveries", params={"limit": 2, "cursor": first["cursor"]}).json()
    ids = [each["id"] for each in first["deliveries"] + second["deliveries"]]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 3
    farm.execute("UPDATE outbox SET state = 'dead', tries = 10")
    path = f"/v1/deliveries/{ids[0]}"
    shown = client.get(path).json()
    assert shown["payload"]["type"] == "job.succeeded"
    assert (shown["state"], shown["log"]) == ("dead", [])
    assert client.post(f"{path}/replay").json()["state"] == "pending"
    since = {"since": "2020-01-01T00:00:00Z", "endpoint": endpoint["id"], "state": "dead"}
    assert client.post("/v1/deliveries:replay", json=since).json() == {"replayed": 2}
    client.patch(f"/v1/endpoints/{endpoint['id']}", json={"enabled": False})
    problem(client.post(f"{path}/replay"), 409, "endpoint_disabled")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"since": 7}, "since"),
        ({"since": "2020-01-01", "endpoint": "x"}, "endpoint"),
        ({"since": "2020-01-01", "state": "pending"}, "state"),
        ({"since": "2020-01-01", "stat": "dead"}, "stat"),
    ],
)
def test_a_bad_replay_is_refused_by_its_field(
    client: httpx.Client, body: dict[str, Any], field: str
) -> None:
    """Nothing is sent again by mistake."""
    assert fields(client.post("/v1/deliveries:replay", json=body)) == [field]


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_any_time_is_good_for_a_replay(client: httpx.Client, since: str) -> None:
    """Those at the ends of the calendar, too."""
    answer = client.post("/v1/deliveries:replay", json={"since": since})
    assert (answer.status_code, answer.json()) == (202, {"replayed": 0})


def test_a_tenants_own_expiry_is_in_its_urls(client: httpx.Client, farm: FarmDatabase) -> None:
    """From the next read on."""
    claim = farm.claimed()
    farm.finish(claim)
    farm.execute("UPDATE tenants SET url_expiry_s = 60 WHERE id = :i", i=farm.tenant.id)
    short = client.get(f"/v1/jobs/{claim.id}").json()["images"][0]["url"]
    farm.execute("UPDATE tenants SET url_expiry_s = NULL")
    long = client.get(f"/v1/jobs/{claim.id}").json()["images"][0]["url"]
    expires = [int(url.partition("expires=")[2].partition("&")[0]) for url in (short, long)]
    assert expires[1] - expires[0] > 80_000
