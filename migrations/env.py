"""Runs the migrations (Alembic) in one transaction, under a lock: two farms may start at once."""

from __future__ import annotations

import os

import sqlalchemy
from alembic import context

from app.database import driver_url
from app.tables import metadata

MIGRATION_LOCK = 7_236_001  # any fixed number; the advisory lock of all migrations


def run() -> None:
    """Migrate the database at the URL that the caller set, or else at `RENDERFARM_DATABASE_URL`."""
    url = context.config.attributes.get("url") or driver_url(os.environ["RENDERFARM_DATABASE_URL"])
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK}
        )
        context.configure(connection=connection, target_metadata=metadata)
        context.run_migrations()


run()
