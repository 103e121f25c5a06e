"""What the farm's own processes say: intake of what it refused, workers of themselves."""

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

# Messages that intake could not accept. One row however often the message is delivered; `body` is
# its beginning, up to what a message may have, and `body_bytes` and `body_sha256` are of all of it.
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
