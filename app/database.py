"""The way to Postgres: one engine per process, and the newest schema on request."""

from __future__ import annotations

import sqlalchemy
from alembic import command
from alembic.config import Config

from app.settings import REPOSITORY


def create_engine(url: str, *, pool_size: int = 10) -> sqlalchemy.Engine:
    """Build an engine on psycopg 3. Connects on first use, and checks a connection before each."""
    return sqlalchemy.create_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=10,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 5,
            "application_name": "renderfarm",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    )


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
