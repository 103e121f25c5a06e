"""The schema's CHECKs and triggers hold for every writer, and match the program's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from app.database import create_engine, migrate
from app.tables import metadata

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.local.postgres import Postgres
    from tests.integration.records import FarmDatabase

FINAL = ("succeeded", "failed", "cancelled", "expired")


def test_the_program_and_the_migrations_agree(engine: Engine) -> None:
    """Alembic finds no difference between `app.tables` and the migrated database."""
    options = {"compare_type": True, "compare_server_default": True}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_the_same_indexes_are_partial_in_the_program_and_the_database(engine: Engine) -> None:
    """An index has a condition in the database if it has one in the program."""
    with engine.connect() as connection:
        found = connection.execute(
            text("""SELECT indexname, indexdef LIKE '% WHERE %' AS partial FROM pg_indexes
                    WHERE schemaname = 'public'""")
        )
        partial = {row.indexname: row.partial for row in found}
    for table in metadata.tables.values():
        for index in table.indexes:
            wanted = index.dialect_options["postgresql"]["where"] is not None
            assert partial[index.name] == wanted, index.name


def test_migrating_again_changes_nothing(engine: Engine, database_url: str) -> None:
    """A second `migrate` leaves the schema unchanged, so it may run at every start."""
    before = inspect(engine).get_table_names()
    migrate(database_url)
    assert inspect(engine).get_table_names() == before


def test_migrations_can_be_reverted(postgres: Postgres) -> None:
    """A downgrade drops every table of the farm, and a new upgrade works."""
    from alembic import command  # noqa: PLC0415 - the one test that needs it
    from alembic.config import Config  # noqa: PLC0415

    from app.config.repository import REPOSITORY  # noqa: PLC0415
    from app.database import driver_url  # noqa: PLC0415

    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE there_and_back")
    url = postgres.url.rpartition("/")[0] + "/there_and_back"
    migrate(url)
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    config.attributes["url"] = driver_url(url)
    command.downgrade(config, "base")
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate(url)
    assert set(metadata.tables) < set(inspect(engine).get_table_names())
    engine.dispose()


@pytest.mark.parametrize(
    "change",
    [
        "status = 'sleeping'",
        "priority = 101",
        "failures = -1",
        "failures = 1",
        "crashes = 1",
        "releases = 1",
        "attempt = 1",
        "step = 11",
        "step = -1",
        "steps = 0",
        "gpu_seconds = -1",
        "cost_usd = -1",
        "lease_until = now()",
        "finished_at = now()",
        "request_hash = '\\x00'",
        "status = 'running', attempt = 1, worker_id = 'w'",
        "status = 'running', attempt = 1, lease_until = now()",
        "status = 'running', worker_id = 'w', lease_until = now()",
        "status = 'running', attempt = 2, worker_id = 'w', lease_until = now()",
        "status = 'succeeded', finished_at = now()",
        "status = 'failed', finished_at = now(), error = '{}'",
        "status = 'cancelled'",
        "status = 'expired', finished_at = now(), attempt = 1",
    ],
)
def test_illegal_changes_of_a_queued_job_are_refused(farm: FarmDatabase, change: str) -> None:
    """Postgres refuses each change of a queued job that breaks a rule of the schema."""
    job_id = farm.queued()
    with pytest.raises(IntegrityError):
        farm.execute(f"UPDATE jobs SET {change} WHERE id = :id", id=job_id)  # noqa: S608
    assert farm.state(job_id) == ("queued", 0)


@pytest.mark.parametrize(
    "change",
    [
        "attempt = 2",
        "attempt = 0",
        "lease_until = NULL",
        "worker_id = NULL",
        "status = 'queued'",
        "status = 'failed', lease_until = NULL, finished_at = now()",
        "status = 'succeeded', lease_until = NULL",
        "failures = 2",
    ],
)
def test_illegal_changes_of_a_running_job_are_refused(farm: FarmDatabase, change: str) -> None:
    """Postgres refuses changes that break the attempt, lease or ending of a running job."""
    claim = farm.claimed()
    with pytest.raises(IntegrityError):
        farm.execute(f"UPDATE jobs SET {change} WHERE id = :id", id=claim.id)  # noqa: S608
    assert farm.state(claim.id) == ("running", 1)


def ended(farm: FarmDatabase, status: str) -> Any:
    """The id of a job in this final state."""
    claim = farm.claimed()
    farm.execute(
        """UPDATE jobs SET status = :status, finished_at = now(), lease_until = NULL,
           error = '{"code": "x"}' WHERE id = :id""",
        status=status,
        id=claim.id,
    )
    return claim.id


@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize(
    "change",
    [
        "status = 'queued', finished_at = NULL",
        "status = 'running', finished_at = NULL, attempt = 2, lease_until = now()",
        *(f"status = '{status}'" for status in FINAL),
        "cost_usd = 0",
    ],
)
def test_nothing_changes_a_final_job(farm: FarmDatabase, status: str, change: str) -> None:
    """Postgres refuses every change of a final job."""
    job_id = ended(farm, status)
    before = farm.job(job_id)
    with pytest.raises(IntegrityError, match="is final"):
        farm.execute(f"UPDATE jobs SET {change} WHERE id = :id", id=job_id)  # noqa: S608
    assert farm.job(job_id) == before


@pytest.mark.parametrize("status", ["running", *FINAL])
def test_a_job_begins_as_queued(farm: FarmDatabase, status: str) -> None:
    """Postgres refuses a new job in any state except `queued`."""
    with pytest.raises(IntegrityError, match="begins as queued"):
        farm.execute(
            """INSERT INTO jobs (id, tenant_id, idempotency_key, request_hash, request, model, steps,
                   deadline_at, status)
               VALUES (gen_random_uuid(), :tenant, 'k', decode(repeat('00', 32), 'hex'), '{}', 'm',
                   1, now(), :status)""",
            tenant=farm.tenant.id,
            status=status,
        )


def test_a_job_has_one_final_event(farm: FarmDatabase) -> None:
    """Postgres refuses a second final event of any type, and accepts other events."""
    job_id = farm.queued()
    insert = "INSERT INTO events (job_id, type, attempt) VALUES (:id, :type, 0)"
    farm.execute(insert, id=job_id, type="cancelled")
    for status in FINAL:
        with pytest.raises(IntegrityError, match="events_one_final"):
            farm.execute(insert, id=job_id, type=status)
    farm.execute(insert, id=job_id, type="retried")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO events (job_id, type, attempt) VALUES (:id, 'vanished', 0)",
        "INSERT INTO images VALUES (:id, -1, 'k', 1, 1, 't', 1, repeat('a', 64), 0)",
        "INSERT INTO images VALUES (:id, 0, 'k', 0, 1, 't', 1, repeat('a', 64), 0)",
        "INSERT INTO images VALUES (:id, 0, 'k', 1, 1, 't', 0, repeat('a', 64), 0)",
        "INSERT INTO images VALUES (:id, 0, 'k', 1, 1, 't', 1, 'abc', 0)",
        """INSERT INTO outbox (id, job_id, tenant_id, type, url, secret, payload, state)
           SELECT id, id, tenant_id, 't', 'u', 's', '{}', 'lost' FROM jobs WHERE id = :id""",
        """INSERT INTO outbox (id, job_id, tenant_id, type, url, secret, payload, state)
           SELECT id, id, tenant_id, 't', 'u', 's', '{}', 'delivered' FROM jobs WHERE id = :id""",
        "INSERT INTO tenants (id, name, webhook_secret) VALUES (:id, 'No Good', 's')",
        "INSERT INTO keys SELECT id, tenant_id, 'k', '\\x00' FROM jobs WHERE id = :id",
    ],
)
def test_invalid_rows_of_other_tables_are_refused(farm: FarmDatabase, statement: str) -> None:
    """Postgres refuses invalid events, images, deliveries, tenants and keys."""
    with pytest.raises(IntegrityError):
        farm.execute(statement, id=farm.queued())


def test_every_event_is_announced(farm: FarmDatabase, database_url: str) -> None:
    """A listener on `jobs` gets the job's id and the event's type after the commit."""
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN jobs")
        claim = farm.claimed()
        payloads = [notice.payload for notice in listener.notifies(timeout=30, stop_after=2)]
    assert payloads == [f"{claim.id} queued", f"{claim.id} running"]
