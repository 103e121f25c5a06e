"""Rejects: the messages that intake refused, the dead-letter queue of the farm."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

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
