"""Jobs, their images, and the log of their events."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.tables.base import NOW, TIME, ZERO, metadata

# Only app.jobs.store changes a job (states and moves: app.jobs.states).
#   From the submission, never changed afterwards:
#     request         every field, with the defaults and the seed filled in
#     request_hash    SHA-256 of the body; a repeat of the idempotency_key must have the same
#     model, priority, steps, shape   copies of fields of the request, for indexes; jobs of one
#                     model and shape can share a forward pass
#     deadline_at     the reaper expires the job after it
#     trace           W3C traceparent of the submission; its webhooks carry it on
#   Moved with the status:
#     attempt         +1 with each claim; the fencing token, which stops writes of a stale worker
#     failures        +1 when the holder reports a failure
#     crashes         +1 when the lease ran out: the worker is lost
#     releases        +1 when the holder gave the job back (drain); uses up no budget
#     run_after       no claim before it: the backoff of a retry, or the delay of a release
#     worker_id, started_at   of the last claim
#     lease_until     set by a claim, renewed by the holder; null if the job is not running
#     step            of the attempt, reported with each renewal; 0 when the job is queued again
#     error           of the last failure; shown once the job is failed, null after a success
#     finished_at     set by the move into a final state
#     render_s, store_s, gpu_seconds, cost_usd   of the attempt that succeeded
#     checkpoint      object key of the state that a drained attempt saved; null: from the start
#   Others:
#     hinted_at       when the dispatcher last sent a hint; null again when the job is claimed or
#                     queued again
#     cache_key       hash of everything the pictures depend on; null: not for the result cache
#     cached          the images are an earlier job's; the job was never running
#     images_gone_at  when the janitor deleted the images because of their age
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

# One row per image of a succeeded job, written with the move. `n` counts from 0, and `key` is the
# object's key in the store. A job from the result cache has rows with the earlier job's keys.
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

# The log of a job's moves: one row per move, written with it, never changed. `type` is the event
# of `app.jobs.states.MOVES`; `data` has the worker, the error, or the job whose images were shared.
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
