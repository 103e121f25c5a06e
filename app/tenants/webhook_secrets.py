"""Webhook secrets (HMAC): they sign the webhooks of one tenant, and can be rotated."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

from sqlalchemy import Engine, text

if TYPE_CHECKING:
    from uuid import UUID


def new_secret() -> str:
    """A new secret that signs webhooks, 256 bits, as in https://www.standardwebhooks.com."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def webhook_secret(engine: Engine, tenant_id: UUID) -> str:
    """The secret that signs the webhooks of the tenant's jobs now."""
    query = text("SELECT webhook_secret FROM tenants WHERE id = :id")
    with engine.connect() as connection:
        return str(connection.execute(query, {"id": tenant_id}).scalar_one())


def rotate_secret(engine: Engine, tenant_id: UUID, grace_s: float) -> str:
    """Replace the secret and return the new one. Both sign each delivery for `grace_s`."""
    statement = text("""UPDATE tenants SET old_webhook_secret = webhook_secret,
        old_secret_until = now() + make_interval(secs => :grace_s), webhook_secret = :secret
        WHERE id = :id""")
    secret = new_secret()
    with engine.begin() as connection:
        connection.execute(statement, {"id": tenant_id, "secret": secret, "grace_s": grace_s})
    return secret
