"""The registry of workers, with their heartbeats."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.tables.base import NOW, TIME, metadata

# One row per worker process, while it lives. The worker inserts it at its start, updates `seen_at`
# and `stats` with each heartbeat, and deletes it at its end. The reaper deletes silent ones.
workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("models", ARRAY(Text), nullable=False),
    Column("slots", Integer, nullable=False),
    Column("started_at", TIME, nullable=False, server_default=NOW),
    Column("seen_at", TIME, nullable=False, server_default=NOW),
    Column("stats", JSONB, nullable=False, server_default=text("'{}'")),
)
Index("workers_seen", workers.c.seen_at)
