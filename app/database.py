"""The way to Postgres: one engine per process, and the newest schema on request."""

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
"""What a statement raises while Postgres is out of reach, or has no connection to spare."""
CONNECTION: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": "renderfarm",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def create_engine(url: str, *, pool_size: int = 10) -> sqlalchemy.Engine:
    """Build an engine on psycopg 3. Connects on first use; a connection that idled is checked."""
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
    """The same engine for statements that stand alone: no BEGIN before and no ROLLBACK after."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def uptime_s(engine: sqlalchemy.Engine) -> float:
    """How long the server has been up, by its own clock."""
    query = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())"
    with autocommit(engine).connect() as connection:
        return float(connection.execute(sqlalchemy.text(query)).scalar_one())


def _check_idle_connections(engine: sqlalchemy.Engine) -> None:
    """Ping a connection before use if it has not been used for `IDLE_S`; busy ones are known good."""

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
    """The SQLAlchemy form of a Postgres URL: any `postgresql://` is read with psycopg 3."""
    scheme, _, rest = url.partition("://")
    return f"{'postgresql+psycopg' if scheme == 'postgresql' else scheme}://{rest}"


def libpq_url(url: str) -> str:
    """The libpq form of a Postgres URL, for a bare psycopg connection."""
    return "postgresql://" + url.partition("://")[2]


def migrate(url: str) -> None:
    """Bring the database to the newest schema. Safe to run again and from several processes."""
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    config.attributes["url"] = driver_url(url)
    command.upgrade(config, "head")
