"""Webhooks: the transactional outbox, the endpoints of tenants, and the log of tries."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.tables.base import NOW, TIME, ZERO, metadata

# Transactional outbox: one row per webhook, written in the transaction that changes the job.
#   endpoint_id        null: the webhook goes to the URL in the job's own request
#   secret             null; a row that an older version wrote has a secret, which signs too
#   payload            as sent, with object keys in place of the images' URLs
#   state              pending until a courier gets a 2xx answer (delivered) or gives up (dead)
#   tries, next_try_at, last_status, last_error   of the tries so far
outbox = Table(
    "outbox",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("tenant_id", Uuid, ForeignKey("tenants.id"), nullable=False),
    Column("type", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text),
    Column("payload", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'pending'")),
    Column("tries", Integer, nullable=False, server_default=ZERO),
    Column("next_try_at", TIME, nullable=False, server_default=NOW),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("delivered_at", TIME),
    Column("endpoint_id", Uuid, ForeignKey("endpoints.id", ondelete="CASCADE")),
)
Index("outbox_due", outbox.c.next_try_at, postgresql_where=text("state = 'pending'"))
Index("outbox_of_job", outbox.c.job_id)
Index(
    "outbox_of_endpoint",
    outbox.c.endpoint_id,
    postgresql_where=text("endpoint_id IS NOT NULL"),
)
Index("outbox_of_tenant", outbox.c.tenant_id, outbox.c.id.desc())

# Webhook endpoints: URLs that receive the events of all jobs of their tenant.
#   events           the subscribed types; empty: the final events
#   state            enabled; disabled after 410 Gone or days of failures, with disabled_reason;
#                    deleted by its tenant, and kept for the log of its deliveries
#   failing_since    the first failure since the last success
#   secret           signs; after a rotation, old_secret signs too until old_secret_until
endpoints = Table(
    "endpoints",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=text("''")),
    Column("events", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("secret", Text, nullable=False),
    Column("old_secret", Text),
    Column("old_secret_until", TIME),
    Column("state", Text, nullable=False, server_default=text("'enabled'")),
    Column("disabled_reason", Text),
    Column("failing_since", TIME),
    Column("created_at", TIME, nullable=False, server_default=NOW),
)
Index(
    "endpoints_of_tenant",
    endpoints.c.tenant_id,
    postgresql_where=text("state <> 'deleted'"),
)

# One row per try of a delivery. `answer` is the beginning of the response body.
tries = Table(
    "tries",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("delivery_id", Uuid, ForeignKey("outbox.id", ondelete="CASCADE"), nullable=False),
    Column("at", TIME, nullable=False, server_default=NOW),
    Column("status", Integer),
    Column("error", Text),
    Column("answer", Text, nullable=False, server_default=text("''")),
    Column("took_s", Double, nullable=False),
)
Index("tries_of_delivery", tries.c.delivery_id, tries.c.id)
