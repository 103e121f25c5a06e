"""Intake: rejects (messages that it refused), and the traceparent of a job."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE jobs ADD COLUMN trace text
    CONSTRAINT a_trace_is_a_traceparent
    CHECK (trace ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$');

CREATE TABLE rejects (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    source      text NOT NULL,
    message_id  text NOT NULL,
    code        text NOT NULL,
    detail      text NOT NULL,
    body_sha256 bytea NOT NULL CHECK (octet_length(body_sha256) = 32),
    body_bytes  bigint NOT NULL CHECK (body_bytes >= octet_length(body)),
    body        bytea NOT NULL CHECK (octet_length(body) <= 262144),
    trace       text,
    at          timestamptz NOT NULL DEFAULT now(),
    replayed_at timestamptz,
    job_id      uuid REFERENCES jobs ON DELETE SET NULL,
    UNIQUE (source, message_id, body_sha256)
);
CREATE INDEX rejects_of_tenant ON rejects (tenant_id, id DESC);
CREATE INDEX rejects_of_job ON rejects (job_id) WHERE job_id IS NOT NULL;
"""


def upgrade() -> None:
    """Create the table and the column."""
    op.execute(TABLES)


def downgrade() -> None:
    """Drop both."""
    op.execute("DROP TABLE rejects; ALTER TABLE jobs DROP COLUMN trace")
