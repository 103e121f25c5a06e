"""Tenants, their API keys, their rate limits and their usage."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)

from app.tables.base import NOW, TIME, metadata

# One row per customer. `renderfarm tenants set` changes the limits and options.
#   max_*, keep_*_s     null: no limit, no deletion by age
#   cache               repeats may be answered from the result cache
#   url_expiry_s        validity of image URLs; null: the farm's setting
#   embed_prompt        image files may contain the request
#   webhook_secret      signs webhooks to URLs in requests; after a rotation, old_webhook_secret
#                       signs too until old_secret_until
tenants = Table(
    "tenants",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("webhook_secret", Text, nullable=False),
    Column("max_queued", Integer, nullable=False, server_default=text("100000")),
    Column("max_running", Integer),
    Column("max_requests_per_s", Double),
    Column("max_gpu_seconds_per_day", Double),
    Column("cache", Boolean, nullable=False, server_default=text("true")),
    Column("keep_jobs_s", Double),
    Column("keep_images_s", Double),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("old_webhook_secret", Text),
    Column("old_secret_until", TIME),
    Column("url_expiry_s", Integer),
    Column("embed_prompt", Boolean, nullable=False, server_default=text("true")),
)

# Rate limit: when a tenant's allowance of requests is full again (see app.tenants.limits). The
# table is unlogged, because its loss in a crash costs nothing.
rates = Table(
    "rates",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    Column("full_at", TIME, nullable=False),
    prefixes=["UNLOGGED"],
)

# API keys. A key is shown once, when it is created; `hash` is its SHA-256.
keys = Table(
    "keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("revoked_at", TIME),
)

# One row per succeeded job, written with the move and deleted when it is added up in `usage`.
usage_entries = Table(
    "usage_entries",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("model", Text, nullable=False),
    Column("day", Date, nullable=False),
    Column("images", Integer, nullable=False),
    Column("cached", Boolean, nullable=False),
    Column("gpu_seconds", Double, nullable=False),
    Column("cost_usd", Double, nullable=False),
)
# Sums by tenant, day (UTC) and model. They outlive the jobs.
usage = Table(
    "usage",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("jobs", BigInteger, nullable=False),
    Column("images", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("gpu_seconds", Double, nullable=False),
    Column("cost_usd", Double, nullable=False),
)
