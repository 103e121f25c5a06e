"""Webhook endpoints, the log of each try, and tenants' options for files and URLs."""

from __future__ import annotations

from alembic import op

revision = "0040"
down_revision = "0020"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE tenants
    ADD COLUMN old_webhook_secret text,
    ADD COLUMN old_secret_until timestamptz,
    ADD COLUMN embed_prompt boolean NOT NULL DEFAULT true,
    ADD COLUMN url_expiry_s integer
        CONSTRAINT a_url_lasts_a_week_at_most CHECK (url_expiry_s BETWEEN 1 AND 604800);

CREATE TABLE endpoints (
    id               uuid PRIMARY KEY,
    tenant_id        uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    url              text NOT NULL CHECK (length(url) BETWEEN 1 AND 2048),
    description      text NOT NULL DEFAULT '',
    events           text[] NOT NULL DEFAULT '{}',
    secret           text NOT NULL,
    old_secret       text,
    old_secret_until timestamptz,
    state            text NOT NULL DEFAULT 'enabled'
                     CHECK (state IN ('enabled', 'disabled', 'deleted')),
    disabled_reason  text,
    failing_since    timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT disabled_has_a_reason CHECK (state <> 'disabled' OR disabled_reason IS NOT NULL)
);
CREATE INDEX endpoints_of_tenant ON endpoints (tenant_id) WHERE state <> 'deleted';

ALTER TABLE outbox
    ALTER COLUMN secret DROP NOT NULL,
    ADD COLUMN endpoint_id uuid REFERENCES endpoints ON DELETE CASCADE;
CREATE INDEX outbox_of_endpoint ON outbox (endpoint_id) WHERE endpoint_id IS NOT NULL;
CREATE INDEX outbox_of_tenant ON outbox (tenant_id, id DESC);

CREATE TABLE tries (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id uuid NOT NULL REFERENCES outbox ON DELETE CASCADE,
    at          timestamptz NOT NULL DEFAULT now(),
    status      integer,
    error       text,
    answer      text NOT NULL DEFAULT '' CHECK (octet_length(answer) <= 4096),
    took_s      double precision NOT NULL CHECK (took_s >= 0)
);
CREATE INDEX tries_of_delivery ON tries (delivery_id, id);
"""


def upgrade() -> None:
    """Create the tables and the columns."""
    op.execute(TABLES)


def downgrade() -> None:
    """Drop them, and the deliveries to endpoints with them."""
    op.execute("""
        DROP TABLE tries;
        DELETE FROM outbox WHERE endpoint_id IS NOT NULL;
        UPDATE outbox SET secret = webhook_secret FROM tenants
            WHERE tenants.id = tenant_id AND secret IS NULL;
        DROP INDEX outbox_of_tenant;
        ALTER TABLE outbox DROP COLUMN endpoint_id, ALTER COLUMN secret SET NOT NULL;
        DROP TABLE endpoints;
        ALTER TABLE tenants DROP COLUMN old_webhook_secret, DROP COLUMN old_secret_until,
            DROP COLUMN url_expiry_s, DROP COLUMN embed_prompt;
    """)
