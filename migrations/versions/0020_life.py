"""Limits and retention of tenants, the result cache, the shapes of jobs, and usage."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0010"
branch_labels = None
depends_on = None

TENANTS = """
ALTER TABLE tenants
    ADD COLUMN max_running integer CHECK (max_running >= 0),
    ADD COLUMN max_requests_per_s double precision CHECK (max_requests_per_s > 0),
    ADD COLUMN max_gpu_seconds_per_day double precision CHECK (max_gpu_seconds_per_day >= 0),
    ADD COLUMN cache boolean NOT NULL DEFAULT true,
    ADD COLUMN keep_jobs_s double precision CHECK (keep_jobs_s > 0),
    ADD COLUMN keep_images_s double precision CHECK (keep_images_s > 0);

-- When a tenant's allowance of requests is full again. Losing it in a crash costs nothing.
CREATE UNLOGGED TABLE rates (
    tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    full_at   timestamptz NOT NULL
);
"""

JOBS = """
ALTER TABLE jobs
    ADD COLUMN shape text NOT NULL DEFAULT '',
    ADD COLUMN cache_key bytea CHECK (octet_length(cache_key) = 32),
    ADD COLUMN images_gone_at timestamptz,
    ADD CONSTRAINT cached_means_never_run CHECK (NOT cached OR attempt = 0),
    ADD CONSTRAINT only_what_was_drawn_can_go
        CHECK (images_gone_at IS NULL OR status = 'succeeded');
CREATE INDEX jobs_cache ON jobs (tenant_id, cache_key, finished_at DESC)
    WHERE status = 'succeeded' AND cache_key IS NOT NULL AND images_gone_at IS NULL;
CREATE INDEX jobs_ended ON jobs (tenant_id, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_with_images ON jobs (tenant_id, finished_at)
    WHERE status = 'succeeded' AND images_gone_at IS NULL;

-- A job that was answered from the cache shares its objects with the job that drew them.
ALTER TABLE images DROP CONSTRAINT images_key_key;
CREATE INDEX images_key ON images (key);
"""

USAGE = """
-- One row for each succeeded job, until it is added up in `usage`, which outlives the jobs.
CREATE TABLE usage_entries (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    model       text NOT NULL,
    day         date NOT NULL,
    images      integer NOT NULL,
    cached      boolean NOT NULL,
    gpu_seconds double precision NOT NULL,
    cost_usd    double precision NOT NULL
);
CREATE TABLE usage (
    tenant_id   uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    day         date NOT NULL,
    model       text NOT NULL,
    jobs        bigint NOT NULL,
    images      bigint NOT NULL,
    cached      bigint NOT NULL,
    gpu_seconds double precision NOT NULL,
    cost_usd    double precision NOT NULL,
    PRIMARY KEY (tenant_id, day, model)
);
INSERT INTO usage
SELECT tenant_id, (finished_at AT TIME ZONE 'UTC')::date, model, count(*),
       sum((request->>'num_images')::integer), 0, sum(gpu_seconds), sum(cost_usd)
FROM jobs WHERE status = 'succeeded' GROUP BY 1, 2, 3;
"""

GUARD = """
CREATE OR REPLACE FUNCTION jobs_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'queued' THEN
            RAISE EXCEPTION 'a job begins as queued, not %', NEW.status
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.status IN ('succeeded', 'failed', 'cancelled', 'expired') THEN
        {final}
        RAISE EXCEPTION 'job % is final (%)', OLD.id, OLD.status USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.status = 'queued' AND NEW.status IN ('succeeded', 'failed'){unless} THEN
        RAISE EXCEPTION 'job % cannot go from queued to %', OLD.id, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.attempt <> OLD.attempt + (OLD.status = 'queued' AND NEW.status = 'running')::int THEN
        RAISE EXCEPTION 'job %: the attempt rises by one with each claim and never otherwise', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
"""
# The images of a final job may age out, once. Nothing else of the job may change.
FINAL = """IF OLD.images_gone_at IS NULL AND NEW.images_gone_at IS NOT NULL
           AND to_jsonb(NEW) - 'images_gone_at' = to_jsonb(OLD) - 'images_gone_at' THEN
            RETURN NEW;
        END IF;"""
UNLESS = " AND NOT (NEW.status = 'succeeded' AND NEW.cached)"


def upgrade() -> None:
    """Add tables and columns. The previous version of the program still works with them."""
    for part in (TENANTS, JOBS, USAGE, GUARD.format(final=FINAL, unless=UNLESS)):
        op.execute(part)


def downgrade() -> None:
    """Remove them, and jobs answered from the cache, which the older schema cannot hold."""
    op.execute("DELETE FROM jobs WHERE cached")
    op.execute(GUARD.format(final="", unless=""))
    op.execute("""
        DROP TABLE rates, usage, usage_entries;
        DROP INDEX jobs_cache, jobs_ended, jobs_with_images, images_key;
        ALTER TABLE images ADD CONSTRAINT images_key_key UNIQUE (key);
        ALTER TABLE jobs DROP COLUMN shape, DROP COLUMN cache_key, DROP COLUMN images_gone_at,
            DROP CONSTRAINT cached_means_never_run;
        ALTER TABLE tenants DROP COLUMN max_running, DROP COLUMN max_requests_per_s,
            DROP COLUMN max_gpu_seconds_per_day, DROP COLUMN cache, DROP COLUMN keep_jobs_s,
            DROP COLUMN keep_images_s""")
