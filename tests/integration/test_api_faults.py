"""The HTTP API while something is broken or there is too much."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg

from tests.integration.api_server import CALLS, client, problem, server, submit
from tests.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from app.local.postgres import Postgres
    from tests.integration.api_server import Server
    from tests.integration.records import FarmDatabase

__all__ = ["client", "server"]


@contextlib.contextmanager
def unreachable(postgres: Postgres, database_url: str) -> Iterator[None]:
    """The database throws everyone out and lets nobody in, as one that is shutting down."""
    name = database_url.rpartition("/")[2]
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_while_the_records_are_away_every_call_says_so(
    client: httpx.Client, farm: FarmDatabase, postgres: Postgres, database_url: str
) -> None:
    """503 with Retry-After and no inner names; when the records are back, so is the farm."""
    job_id = submit(client)["id"]
    with unreachable(postgres, database_url):
        for method, path in [*CALLS, ("GET", "/readyz")]:
            response = client.request(method, path, json={"prompt": "a"})
            body = problem(response, 503, "unavailable")
            assert response.headers["retry-after"] == "1"
            assert "psycopg" not in json.dumps(body)
        assert client.get("/healthz").status_code == 200
        assert "python_info" in client.get("/metrics").text
        assert "renderfarm_jobs" not in client.get("/metrics").text
    farm.engine.dispose()  # the test's own connections were cut too
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "queued"


def test_waiting_survives_a_break_of_the_notifications(
    client: httpx.Client, server: Server, farm: FarmDatabase, database_url: str
) -> None:
    """A lost LISTEN connection delays who waits, and no more."""
    job_id = submit(client)["id"]
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.get, f"/v1/jobs/{job_id}?wait=60")
        until(lambda: job_id in server.context.hub._waiting)
        farm.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = :name AND query = 'LISTEN jobs'""",
            name=database_url.rpartition("/")[2],
        )
        farm.finish(farm.claimed(UUID(job_id)))
        assert answer.result(PATIENCE_S).json()["status"] == "succeeded"


def test_a_bug_shows_no_trace(client: httpx.Client, farm: FarmDatabase) -> None:
    """500 as a problem, without a word of what broke."""
    farm.execute("ALTER TABLE events RENAME TO hidden")
    try:
        body = problem(client.post("/v1/jobs", json={"prompt": "a"}), 500, "internal_error")
    finally:
        farm.execute("ALTER TABLE hidden RENAME TO events")
    assert "events" not in json.dumps(body)


def test_too_many_requests_a_second_are_refused(client: httpx.Client, farm: FarmDatabase) -> None:
    """Over its rate a tenant is told when to come back, whatever it asks for."""
    farm.execute("UPDATE tenants SET max_requests_per_s = 0.5")
    assert client.get("/v1/models").status_code == HTTPStatus.OK
    answer = client.get("/v1/models")
    problem(answer, 429, "over_quota")
    assert answer.headers["retry-after"] == "2"


def test_a_flood_is_refused_at_the_door(
    client: httpx.Client, server: Server, farm: FarmDatabase
) -> None:
    """While too many submissions are handled more are told to come again; reading goes on."""
    admission = server.app.state.admission
    admission.in_progress += admission.limit
    try:
        for path in ("/v1/jobs", "/v1/jobs:batch"):
            answer = client.post(path, json={"prompt": "a red circle"})
            problem(answer, 503, "unavailable")
            assert answer.headers["retry-after"] == "1"
        assert client.get("/v1/jobs").status_code == HTTPStatus.OK
    finally:
        admission.in_progress -= admission.limit
    submit(client)
    until(lambda: admission.in_progress == 0)
    assert len(farm.rows("SELECT id FROM jobs")) == 1
