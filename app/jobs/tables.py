"""The records, as the program sees them. The migrations make them; a test compares the two.

CHECKs and triggers live in the migrations alone: Postgres enforces them whoever writes.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData()
TIME = DateTime(timezone=True)
NOW = text("now()")
ZERO = text("0")

# Of what may be null, null means: no limit, and kept for ever.
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

# When a tenant's allowance of requests is full again: see app.jobs.limits.
rates = Table(
    "rates",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    Column("full_at", TIME, nullable=False),
    prefixes=["UNLOGGED"],
)

# The key itself is shown once, when it is made; only its SHA-256 is kept.
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

# status, attempt, lease_until and the counters are moved by app.jobs.store alone:
#   attempt    +1 with each claim; the fence that a stale worker fails at
#   failures   +1 when the holder reports a transient error
#   crashes    +1 when the lease ran out (the worker is lost)
#   releases   +1 when the holder gave the job back (drain); costs no budget
#   hinted_at  when the dispatcher last told the workers; null: not since it was queued
# shape      jobs of one model and shape can share a forward pass
# cache_key  what the picture depends on; jobs with the same one draw the same
# images_gone_at  when its images aged out
# checkpoint  key of the object that a drained attempt left for the next one; null: from the start
# trace is the W3C traceparent that the submission came with; its webhooks carry it on.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("tenants.id"), nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("request", JSONB, nullable=False),
    Column("model", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False, server_default=ZERO),
    Column("status", Text, nullable=False, server_default=text("'queued'")),
    Column("attempt", Integer, nullable=False, server_default=ZERO),
    Column("failures", Integer, nullable=False, server_default=ZERO),
    Column("crashes", Integer, nullable=False, server_default=ZERO),
    Column("releases", Integer, nullable=False, server_default=ZERO),
    Column("run_after", TIME, nullable=False, server_default=NOW),
    Column("deadline_at", TIME, nullable=False),
    Column("hinted_at", TIME),
    Column("worker_id", Text),
    Column("lease_until", TIME),
    Column("step", Integer, nullable=False, server_default=ZERO),
    Column("steps", Integer, nullable=False),
    Column("error", JSONB),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("started_at", TIME),
    Column("finished_at", TIME),
    Column("render_s", Double),
    Column("store_s", Double),
    Column("gpu_seconds", Double, nullable=False, server_default=ZERO),
    Column("cost_usd", Double, nullable=False, server_default=ZERO),
    Column("cached", Boolean, nullable=False, server_default=text("false")),
    Column("trace", Text),
    Column("shape", Text, nullable=False, server_default=text("''")),
    Column("cache_key", LargeBinary),
    Column("images_gone_at", TIME),
    Column("checkpoint", Text),
    UniqueConstraint("tenant_id", "idempotency_key"),
)
Index(
    "jobs_queue",
    jobs.c.model,
    jobs.c.tenant_id,
    jobs.c.priority.desc(),
    jobs.c.created_at,
    postgresql_where=text("status = 'queued'"),
)
Index("jobs_leases", jobs.c.lease_until, postgresql_where=text("status = 'running'"))
Index(
    "jobs_deadlines",
    jobs.c.deadline_at,
    postgresql_where=text("status IN ('queued', 'running')"),
)
Index("jobs_of_tenant", jobs.c.tenant_id, jobs.c.id.desc())
Index(
    "jobs_waiting_of_tenant",
    jobs.c.tenant_id,
    jobs.c.model,
    jobs.c.created_at,
    postgresql_where=text("status = 'queued'"),
)

Index(
    "jobs_cache",
    jobs.c.tenant_id,
    jobs.c.cache_key,
    jobs.c.finished_at.desc(),
    postgresql_where=text(
        "status = 'succeeded' AND cache_key IS NOT NULL AND images_gone_at IS NULL"
    ),
)
Index(
    "jobs_ended",
    jobs.c.tenant_id,
    jobs.c.finished_at,
    postgresql_where=text("finished_at IS NOT NULL"),
)
Index(
    "jobs_with_images",
    jobs.c.tenant_id,
    jobs.c.finished_at,
    postgresql_where=text("status = 'succeeded' AND images_gone_at IS NULL"),
)

images = Table(
    "images",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
)
Index("images_key", images.c.key)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("type", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("data", JSONB, nullable=False, server_default=text("'{}'")),
)
Index("events_of_job", events.c.job_id, events.c.id)
Index(
    "events_one_final",
    events.c.job_id,
    unique=True,
    postgresql_where=text("type IN ('succeeded', 'failed', 'cancelled', 'expired')"),
)

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

# Where a tenant is told of all its jobs. `events` is empty for all final ones; `failing_since` is
# the first failure since the last success. A deleted one is kept for the log of its deliveries.
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

# One row for each try of a delivery; `answer` is the beginning of what the endpoint said.
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

# One row for each succeeded job, until it is added up in `usage`, which outlives the jobs.
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
