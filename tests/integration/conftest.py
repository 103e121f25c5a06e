"""Fixtures: one real Postgres and one real Redis for all tests, and a database for each module."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
from psycopg import sql

from app.database import create_engine, migrate
from app.local.postgres import Postgres
from app.local.redis import Redis
from tests.integration.records import FarmDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

TEMPLATE = "migrated"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server with a migrated template database. It runs without fsync, which makes it faster."""
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("ALTER SYSTEM SET synchronous_commit = off")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
        migrate(server.url.rpartition("/")[0] + "/" + TEMPLATE)
        yield server


@pytest.fixture(scope="module")
def database_url(postgres: Postgres) -> str:
    """An empty database with the newest schema."""
    name = f"farm_{next(NUMBERS)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(TEMPLATE)
            )
        )
    return postgres.url.rpartition("/")[0] + "/" + name


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    """Connections to the module's database."""
    connections = create_engine(database_url)
    yield connections
    connections.dispose()


@pytest.fixture
def farm(engine: Engine) -> FarmDatabase:
    """The module's database, empty; tenants are created when a test uses them."""
    database = FarmDatabase(engine)
    database.reset()
    return database


@pytest.fixture
def audited(farm: FarmDatabase) -> Iterator[None]:
    """Check after the test that the database violates no invariant of the audit."""
    yield
    assert farm.breaches() == []


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A real Redis server."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def broker(redis_server: Redis) -> Iterator[redis.Redis]:
    """A client of an empty Redis."""
    client = redis.Redis.from_url(redis_server.url, decode_responses=True)
    client.flushall()
    yield client
    client.close()
