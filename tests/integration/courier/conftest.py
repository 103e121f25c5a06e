"""One real Postgres for the courier's tests, emptied for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.database import create_engine, migrate
from app.ids import new_id
from app.local.postgres import Postgres
from tests.integration.courier.records import SECRET, Records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


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
    yield fill(engine, database)
    engine.dispose()


def fill(engine: Engine, url: str) -> Records:
    """One tenant and one job, and nothing else."""
    made = Records(engine, url, new_id(), new_id())
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
    return made
