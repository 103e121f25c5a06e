"""Rejects (the dead-letter queue of intake) and the registry of workers."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.tables.base import NOW, TIME, metadata

# Messages that intake refused. A message that is delivered several times has one row.
#   message_id                the id of the message in its service
#   code, detail              the reason: the error code, and a text
#   body                      the body's beginning, up to the size limit of a message
#   body_bytes, body_sha256   of the whole body
#   replayed_at, job_id       null until `renderfarm rejects replay` makes a job of the message
rejects = Table(
    "rejects",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("source", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("body_sha256", LargeBinary, nullable=False),
    Column("body_bytes", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("trace", Text),
    Column("at", TIME, nullable=False, server_default=NOW),
    Column("replayed_at", TIME),
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="SET NULL")),
    UniqueConstraint("source", "message_id", "body_sha256"),
)
Index("rejects_of_tenant", rejects.c.tenant_id, rejects.c.id.desc())
Index("rejects_of_job", rejects.c.job_id, postgresql_where=text("job_id IS NOT NULL"))

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
