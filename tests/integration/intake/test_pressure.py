"""Intake when something is in the way: no room, no database, a slow one, a failing queue, a stop.

On the memory queue, whose insides can be looked at, and a real Postgres.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from app.config.settings import Settings
from app.errors import SettingsError
from app.intake.role import open_readers
from app.tenants import tenants
from renderfarm.queues import Outgoing, Refused
from renderfarm.queues.memory import MemoryQueue, store
from tests.integration.intake.rig import IntakeRig, ids, requests
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from app.local.postgres import Postgres
    from renderfarm.queues import Message
    from renderfarm.queues.memory import Store
    from tests.integration.records import FarmDatabase

SHORT_S = 0.6
FILL = """
INSERT INTO jobs (id, tenant_id, idempotency_key, request_hash, request, model, steps, deadline_at)
SELECT gen_random_uuid(), :tenant, n, decode(repeat('00', 32), 'hex'), '{}', 'quick', 1,
       now() + interval '1 hour'
FROM generate_series(1, :count) AS numbers(n)
"""


def inside(url: str) -> Store:
    """What the memory queue holds."""
    return store(urlsplit(url).netloc)


def leased(url: str) -> int:
    """Count the messages under a lease."""
    return sum(entry.leased for entry in inside(url).entries)


def deliveries(url: str) -> list[int]:
    """How often each message that is not settled was handed out."""
    return [entry.deliveries for entry in inside(url).entries]


def limit(desk: IntakeRig, most: int) -> None:
    """Set how many jobs of the tenant may wait."""
    update = "UPDATE tenants SET max_queued = :most WHERE id = :id"
    desk.farm.execute(update, most=most, id=desk.farm.tenant.id)


def cancel(desk: IntakeRig, most: int) -> None:
    """Make room by ending this many waiting jobs."""
    for row in desk.farm.rows("SELECT id FROM jobs WHERE status = 'queued' LIMIT :n", n=most):
        desk.farm.store.cancel(row["id"], desk.farm.tenant.id)


@contextmanager
def without_database(postgres: Postgres, farm: FarmDatabase) -> Iterator[None]:
    """The module's database lets nobody in, and has thrown everybody out."""
    name = farm.engine.url.database
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            farm.engine.dispose()


@contextmanager
def held_up(farm: FarmDatabase) -> Iterator[Connection]:
    """Nobody else can write a job meanwhile: this connection has locked the table."""
    with farm.engine.connect() as connection:
        connection.execute(text("LOCK TABLE jobs IN SHARE ROW EXCLUSIVE MODE"))
        try:
            yield connection
        finally:
            with suppress(OperationalError):  # it may have been thrown out
                connection.commit()


def outlast(url: str, leases: int) -> None:
    """Wait until a message's lease has been extended over this many leases."""
    (first, *_) = inside(url).entries
    until(lambda: first.leased)
    goal = first.due_at + leases * SHORT_S
    until(lambda: first.due_at > goal)


def test_a_full_queue_leaves_messages_where_they_are(desk: IntakeRig) -> None:
    """It takes as many as there is room for and not one more, and goes on when there is room."""
    url = desk.memory()
    limit(desk, 5)
    sent = desk.queue(url).send_many(requests(12))
    with desk.reading(url):
        desk.jobs(5)
        until(lambda: leased(url) == 0)
        assert deliveries(url) == [0] * 7
        cancel(desk, 5)
        desk.jobs(10)
        limit(desk, 100)
        assert ids(desk.jobs(12)) == set(sent)
    assert inside(url).entries == []
    assert desk.farm.breaches() == []


def test_room_that_others_took_costs_no_delivery(desk: IntakeRig) -> None:
    """What turns out to be too much stays in hand until there is room, and goes back at a stop."""
    url = desk.memory(lease_s=SHORT_S)
    limit(desk, 30)
    with desk.reading(url):
        with held_up(desk.farm) as others:
            sent = desk.queue(url).send_many(requests(20))
            until(lambda: leased(url) == 20)
            others.execute(text(FILL), {"tenant": desk.farm.tenant.id, "count": 25})
        desk.jobs(30)
        until(lambda: leased(url) == 15)
        outlast(url, 2)
        assert deliveries(url) == [1] * 15
        assert len(desk.jobs(0)) == 30
    assert leased(url) == 0
    limit(desk, 100)
    with desk.reading(url):
        assert set(sent) < ids(desk.jobs(45))


def test_without_a_database_nothing_is_received(desk: IntakeRig, postgres: Postgres) -> None:
    """While it is away messages stay in the queue, untouched; when it is back they come in."""
    url = desk.memory()
    sent = desk.queue(url).send_many(requests(3))
    with capture_logs() as lines, without_database(postgres, desk.farm):
        with desk.reading(url):
            until(lambda: "source_waiting" in {line["event"] for line in lines})
        assert deliveries(url) == [0, 0, 0]
    with desk.reading(url):
        assert ids(desk.jobs(3)) == set(sent)


def test_leases_are_kept_while_the_database_is_slow(desk: IntakeRig) -> None:
    """A commit that takes several leases costs no second delivery."""
    url = desk.memory(lease_s=SHORT_S)
    with desk.reading(url):
        with held_up(desk.farm):
            sent = desk.queue(url).send_many(requests(3))
            outlast(url, 3)
            assert deliveries(url) == [1, 1, 1]
            assert desk.queue(url).receive() == []
        assert ids(desk.jobs(3)) == set(sent)
    assert inside(url).entries == []


def test_leases_are_kept_while_the_database_is_away(desk: IntakeRig, postgres: Postgres) -> None:
    """Messages in flight stay leased through an outage, and become jobs afterwards."""
    url = desk.memory(lease_s=SHORT_S)
    with desk.reading(url):
        with held_up(desk.farm):
            sent = desk.queue(url).send_many(requests(3))
            until(lambda: leased(url) == 3)
            with without_database(postgres, desk.farm):
                outlast(url, 3)
                assert deliveries(url) == [1, 1, 1]
        assert ids(desk.jobs(3)) == set(sent)


def test_a_failing_source_stops_no_other(desk: IntakeRig) -> None:
    """A queue that cannot be reached and one whose tenant is unknown leave the third to itself."""
    url, lost = desk.memory(), desk.memory()
    desk.queue(lost).send_many(requests(1))
    away = "redis://127.0.0.1:1/0?stream=away"
    with desk.reading(url, away), desk.reading(lost, tenant="nobody"):
        sent = desk.queue(url).send_many(requests(3))
        assert ids(desk.jobs(3)) == set(sent)
        tenants.ensure_tenant(desk.farm.engine, "nobody")
        desk.jobs(4)  # once its tenant is there, the other goes on by itself


def test_a_bug_in_an_adapter_is_survived(desk: IntakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw ends one round, not the reader."""
    url = desk.memory()
    queue = desk.queue(url)
    receive, calls = MemoryQueue.receive, iter([True])

    def fails_once(self: MemoryQueue, *limits: Any) -> list[Message]:
        if next(calls, False):
            raise ZeroDivisionError
        return receive(self, *limits)

    monkeypatch.setattr(MemoryQueue, "receive", fails_once)
    with desk.reading(url):
        sent = queue.send_many(requests(2))
        assert ids(desk.jobs(2)) == set(sent)


def test_sources_have_defaults_of_their_own(desk: IntakeRig) -> None:
    """A request that names no model and no priority gets its source's; one that does keeps them."""
    url = desk.memory()
    queue = desk.queue(url)
    queue.send_many([{"prompt": "x"}, {"prompt": "x", "model": "quick", "priority": 0}])
    with desk.reading(url, model="other", priority=7):
        jobs = desk.jobs(2)
    assert {(job["model"], job["priority"]) for job in jobs} == {("other", 7), ("quick", 0)}


def test_a_changed_default_makes_no_conflict(desk: IntakeRig) -> None:
    """A message that is delivered again after the source's defaults were changed is a repeat."""
    url, again = desk.memory(), desk.memory()
    request = {"id": str(uuid4()), "prompt": "x"}
    desk.queue(url).send(request)
    with desk.reading(url, model="other", priority=7):
        desk.jobs(1)
    desk.queue(again).send(request)
    with desk.reading(again):
        until(lambda: inside(again).entries == [])
    assert inside(again).dead == []
    assert [job["model"] for job in desk.jobs(0)] == ["other"]


def test_a_message_without_an_id_is_one_job(desk: IntakeRig) -> None:
    """A foreign producer's message, delivered twice, is known by the name its service gave it."""
    url = desk.memory()
    body = b'{"prompt": "a red circle"}'
    for name in ("m1", "m2", "m1"):
        desk.queue(url).put([Outgoing(body, id=name)])
        with desk.reading(url):
            until(lambda: inside(url).entries == [])
    assert len(desk.jobs(0)) == 2


def test_the_same_id_twice_in_one_batch(desk: IntakeRig) -> None:
    """Two bodies of one id that arrive together are one job and one refusal; a twin is neither."""
    url, job_id = desk.memory(), str(uuid4())
    bodies = [
        json.dumps({"id": job_id, "prompt": prompt}).encode() for prompt in ("one", "two", "one")
    ]
    desk.queue(url).put([Outgoing(body, id=f"m{n}") for n, body in enumerate(bodies)])
    with desk.reading(url):
        (reject,) = desk.rejects(1)
        until(lambda: inside(url).entries == [])
    assert [job["request"]["prompt"] for job in desk.jobs(1)] == ["one"]
    assert (reject["code"], reject["message_id"]) == ("idempotency_conflict", "m1")


def test_an_id_of_another_tenant_is_refused(desk: IntakeRig) -> None:
    """One tenant can neither see nor take over another's job by its id."""
    (theirs,) = desk.farm.insert(desk.farm.new(tenant=desk.farm.other))
    url = desk.memory()
    desk.queue(url).send({"id": str(theirs.row["id"]), "prompt": "x"})
    with desk.reading(url):
        (reject,) = desk.rejects(1)
    assert reject["code"] == "idempotency_conflict"
    assert len(desk.jobs(0)) == 1


def test_a_queue_without_a_dead_letter_is_not_blocked(
    desk: IntakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad message that cannot be moved is recorded once, and put aside for later."""

    def refuse(self: MemoryQueue, messages: list[Message], reason: str) -> list[Message]:
        del self, messages, reason
        raise Refused("it has no dead-letter queue")

    monkeypatch.setattr(MemoryQueue, "reject", refuse)
    url = desk.memory()
    queue = desk.queue(url)
    queue.put([Outgoing(b"{")])
    with desk.reading(url):
        desk.rejects(1)
        queue.send_many(requests(1))
        desk.jobs(1)
        until(lambda: leased(url) == 0)
    (left,) = inside(url).entries
    assert left.due_at > time.monotonic() + 200


@pytest.mark.parametrize(
    ("url", "defaults"),
    [
        ("memory://q", {"model": "nobody"}),
        ("memory://q?colour=red", {}),
        ("redis://h/0", {}),
    ],
)
def test_a_source_that_cannot_be_stops_the_start(
    desk: IntakeRig, url: str, defaults: dict[str, str]
) -> None:
    """An unknown model and an unusable URL are settings to be mended, named by the variable."""
    settings = Settings.from_environment(desk.environment(url, **defaults))
    with pytest.raises(SettingsError, match="RENDERFARM_SOURCES"):
        open_readers(settings, desk.farm.engine, threading.Event())
