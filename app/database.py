"""The database: one SQLAlchemy engine per process, and migrations to the newest schema."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from app.config.repository import REPOSITORY

IDLE_S = 2.0
CONNECTION_ERRORS = (OperationalError, InterfaceError, NoConnection, psycopg.OperationalError)
"""What a statement raises while Postgres is unavailable, or when the pool has no connection."""
CONNECTION: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": "renderfarm",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def create_engine(url: str, *, pool_size: int = 10) -> sqlalchemy.Engine:
    """Build an engine on psycopg 3.

    It connects at first use and checks connections that were idle.
    """
    engine = sqlalchemy.create_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=10,
        pool_timeout=5,
        connect_args=CONNECTION,
    )
    _check_idle_connections(engine)
    return engine


def autocommit(engine: sqlalchemy.Engine) -> sqlalchemy.Engine:
    """Return the same engine in autocommit mode, for single statements.

    No BEGIN and no ROLLBACK.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def uptime_s(engine: sqlalchemy.Engine) -> float:
    """Return how long the server has been up, by its own clock."""
    query = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())"
    with autocommit(engine).connect() as connection:
        return float(connection.execute(sqlalchemy.text(query)).scalar_one())


def _check_idle_connections(engine: sqlalchemy.Engine) -> None:
    """Ping a connection before use if it was idle for `IDLE_S`.

    Busy connections are known to work.
    """

    @sqlalchemy.event.listens_for(engine, "checkin")
    def note(_: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    @sqlalchemy.event.listens_for(engine, "checkout")
    def check(connection: Any, record: Any, _: Any) -> None:
        if time.monotonic() - record.info.get("used_at", time.monotonic()) < IDLE_S:
            return
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except psycopg.Error as error:
            raise sqlalchemy.exc.DisconnectionError from error


def driver_url(url: str) -> str:
    """Return a Postgres URL in SQLAlchemy's form; psycopg 3 serves any `postgresql://`."""
    scheme, _, rest = url.partition("://")
    return f"{'postgresql+psycopg' if scheme == 'postgresql' else scheme}://{rest}"


def libpq_url(url: str) -> str:
    """Return a Postgres URL in libpq's form, for a bare psycopg connection."""
    return "postgresql://" + url.partition("://")[2]


def migrate(url: str) -> None:
    """Migrate the database to the newest schema. Safe to repeat, and from several processes."""
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    config.attributes["url"] = driver_url(url)
    command.upgrade(config, "head")
