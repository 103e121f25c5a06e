"""Tenants, keys, jobs, images, events, outbox, workers."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE tenants (
    id             uuid PRIMARY KEY,
    name           text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    webhook_secret text NOT NULL,
    max_queued     integer NOT NULL DEFAULT 100000 CHECK (max_queued >= 0),
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE keys (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name       text NOT NULL,
    hash       bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

CREATE TABLE jobs (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL REFERENCES tenants,
    idempotency_key text NOT NULL,
    request_hash    bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    request         jsonb NOT NULL,
    model           text NOT NULL,
    priority        smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100),
    status          text NOT NULL DEFAULT 'queued' CHECK (status IN
                    ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')),
    attempt         integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    failures        integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    crashes         integer NOT NULL DEFAULT 0 CHECK (crashes >= 0),
    releases        integer NOT NULL DEFAULT 0 CHECK (releases >= 0),
    run_after       timestamptz NOT NULL DEFAULT now(),
    deadline_at     timestamptz NOT NULL,
    hinted_at       timestamptz,
    worker_id       text,
    lease_until     timestamptz,
    step            integer NOT NULL DEFAULT 0,
    steps           integer NOT NULL CHECK (steps >= 1),
    error           jsonb,
    created_at      timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,
    finished_at     timestamptz,
    render_s        double precision,
    store_s         double precision,
    gpu_seconds     double precision NOT NULL DEFAULT 0 CHECK (gpu_seconds >= 0),
    cost_usd        double precision NOT NULL DEFAULT 0 CHECK (cost_usd >= 0),
    cached          boolean NOT NULL DEFAULT false,
    UNIQUE (tenant_id, idempotency_key),
    CONSTRAINT a_lease_means_running
        CHECK ((status = 'running') = (lease_until IS NOT NULL)),
    CONSTRAINT running_has_a_worker
        CHECK (status <> 'running' OR (worker_id IS NOT NULL AND attempt > 0)),
    CONSTRAINT final_has_an_end
        CHECK ((status IN ('succeeded', 'failed', 'cancelled', 'expired'))
               = (finished_at IS NOT NULL)),
    CONSTRAINT failed_has_an_error CHECK (status <> 'failed' OR error IS NOT NULL),
    CONSTRAINT steps_stay_within CHECK (step BETWEEN 0 AND steps),
    CONSTRAINT every_attempt_is_accounted_for
        CHECK (failures + crashes + releases <= attempt)
);
CREATE INDEX jobs_queue ON jobs (model, tenant_id, priority DESC, created_at) WHERE status = 'queued';
CREATE INDEX jobs_leases ON jobs (lease_until) WHERE status = 'running';
CREATE INDEX jobs_deadlines ON jobs (deadline_at) WHERE status IN ('queued', 'running');
CREATE INDEX jobs_of_tenant ON jobs (tenant_id, id DESC);
CREATE INDEX jobs_waiting_of_tenant ON jobs (tenant_id, model, created_at)
    WHERE status = 'queued';

CREATE TABLE images (
    job_id       uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    n            integer NOT NULL CHECK (n >= 0),
    key          text NOT NULL UNIQUE,
    width        integer NOT NULL CHECK (width > 0),
    height       integer NOT NULL CHECK (height > 0),
    content_type text NOT NULL,
    bytes        bigint NOT NULL CHECK (bytes > 0),
    sha256       text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    seed         bigint NOT NULL,
    PRIMARY KEY (job_id, n)
);

CREATE TABLE events (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id  uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    type    text NOT NULL CHECK (type IN
            ('queued', 'running', 'retried', 'rescued', 'released',
             'succeeded', 'failed', 'cancelled', 'expired')),
    attempt integer NOT NULL,
    data    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX events_of_job ON events (job_id, id);
CREATE UNIQUE INDEX events_one_final ON events (job_id)
    WHERE type IN ('succeeded', 'failed', 'cancelled', 'expired');

CREATE TABLE outbox (
    id           uuid PRIMARY KEY,
    job_id       uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    tenant_id    uuid NOT NULL REFERENCES tenants,
    type         text NOT NULL,
    url          text NOT NULL,
    secret       text NOT NULL,
    payload      jsonb NOT NULL,
    state        text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    tries        integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    next_try_at  timestamptz NOT NULL DEFAULT now(),
    last_status  integer,
    last_error   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    CONSTRAINT delivered_has_a_time CHECK ((state = 'delivered') = (delivered_at IS NOT NULL))
);
CREATE INDEX outbox_due ON outbox (next_try_at) WHERE state = 'pending';
CREATE INDEX outbox_of_job ON outbox (job_id);

CREATE TABLE workers (
    id         text PRIMARY KEY,
    host       text NOT NULL,
    pid        integer NOT NULL,
    device     text NOT NULL,
    models     text[] NOT NULL,
    slots      integer NOT NULL CHECK (slots > 0),
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    stats      jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX workers_seen ON workers (seen_at);
"""

GUARDS = """
CREATE FUNCTION jobs_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'queued' THEN
            RAISE EXCEPTION 'a job begins as queued, not %', NEW.status
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.status IN ('succeeded', 'failed', 'cancelled', 'expired') THEN
        RAISE EXCEPTION 'job % is final (%)', OLD.id, OLD.status USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.status = 'queued' AND NEW.status IN ('succeeded', 'failed') THEN
        RAISE EXCEPTION 'job % cannot go from queued to %', OLD.id, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.attempt <> OLD.attempt + (OLD.status = 'queued' AND NEW.status = 'running')::int THEN
        RAISE EXCEPTION 'job %: the attempt rises by one with each claim and never otherwise', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER jobs_guard BEFORE INSERT OR UPDATE ON jobs
    FOR EACH ROW EXECUTE FUNCTION jobs_guard();
"""


def upgrade() -> None:
    """Create the tables, then the triggers for the rules that no CHECK can express."""
    op.execute(TABLES)
    op.execute(GUARDS)


def downgrade() -> None:
    """Drop everything. No schema exists before the first one."""
    op.execute("DROP TABLE workers, outbox, events, images, jobs, keys, tenants CASCADE")
    op.execute("DROP FUNCTION jobs_guard")
