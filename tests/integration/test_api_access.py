"""Who may ask the HTTP API, and what it tells of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from app.dispatch import workers as worker_records
from app.tenants import keys
from tests.integration.api_server import CALLS, client, nobody, problem, server, stranger, submit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from tests.integration.records import FarmDatabase

__all__ = ["client", "nobody", "server", "stranger"]


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer rf_wrong"}, {"Authorization": "Basic YTpi"},
     {"Authorization": "Bearer"}, {"Authorization": "rf_wrong"}],
)  # fmt: skip
def test_no_call_without_a_valid_key(
    nobody: httpx.Client, method: str, path: str, headers: Mapping[str, str]
) -> None:
    """Without a key, or with a wrong one, every call under /v1 says how to send one."""
    response = nobody.request(method, path, headers=headers)
    problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_opens_nothing_from_that_moment(
    client: httpx.Client, farm: FarmDatabase
) -> None:
    """A key works until it is revoked and not once after."""
    assert client.get("/v1/jobs").status_code == 200
    (key,) = keys.list_keys(farm.engine)
    assert keys.revoke_key(farm.engine, key["id"])
    problem(client.get("/v1/jobs"), 401, "unauthorized")


def test_the_records_hold_no_key(client: httpx.Client, farm: FarmDatabase) -> None:
    """A copy of the database opens nothing: it has only the hashes of the keys."""
    key = client.headers["Authorization"].removeprefix("Bearer ")
    (row,) = farm.rows("SELECT * FROM keys")
    assert key not in str(row)
    assert key.encode() not in row["hash"]


def test_anothers_job_does_not_exist(client: httpx.Client, stranger: httpx.Client) -> None:
    """Another tenant's job is answered just like one that never was."""
    job_id, never = submit(client)["id"], str(uuid4())
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events")):
        theirs = problem(stranger.request(method, f"/v1/jobs/{job_id}{path}"), 404, "not_found")
        none = problem(stranger.request(method, f"/v1/jobs/{never}{path}"), 404, "not_found")
        assert theirs["detail"].replace(job_id, never) == none["detail"]
    assert stranger.get("/v1/jobs").json()["jobs"] == []
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "queued"


def test_models_are_listed_with_their_limits(client: httpx.Client) -> None:
    """What is served, and what it can draw."""
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["name"], model["defaults"]["width"]) == ("null", 64)
    assert model["limits"]["multiple_of"] == 8


def test_health_needs_no_key(nobody: httpx.Client, farm: FarmDatabase) -> None:
    """Health, readiness and metrics answer without a key."""
    farm.queued()
    worker_records.register(
        farm.engine,
        worker_records.Worker(id="w", host="h", pid=1, device="cpu", models=("null",), slots=16),
    )
    assert nobody.get("/healthz").json() == {"status": "ok"}
    assert nobody.get("/readyz").json() == {"status": "ready", "workers": 1}
    metrics = nobody.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'renderfarm_jobs{model="null",status="queued"} 1.0' in metrics.text
    assert "renderfarm_slots 16.0" in metrics.text


def test_requests_are_counted_by_route(client: httpx.Client, nobody: httpx.Client) -> None:
    """A job's id is no label, so the figures stay few."""
    job_id = submit(client)["id"]
    client.get(f"/v1/jobs/{job_id}")
    metrics = nobody.get("/metrics").text
    assert 'method="GET",route="/v1/jobs/{job_id}",status="200"' in metrics
    assert job_id not in metrics


def test_any_other_path_is_a_problem_too(client: httpx.Client) -> None:
    """No route, or the wrong method: the same form of answer."""
    problem(client.get("/v1/nothing"), 404, "not_found")
    problem(client.delete("/v1/jobs"), 405, "method_not_allowed")
