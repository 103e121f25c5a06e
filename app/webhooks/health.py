"""What a try says of its endpoint: it lives, it fails, or it is to be bothered no more."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, text

from app.webhooks.schedule import GONE, Answered

if TYPE_CHECKING:
    from uuid import UUID

    from app.webhooks.schedule import Answer

log = structlog.get_logger("app.webhooks")
DISABLE_AFTER = timedelta(days=5)
DISABLED = "endpoint.disabled"

_LIVES = text(
    "UPDATE endpoints SET failing_since = NULL WHERE id = :id AND failing_since IS NOT NULL"
)

_FAILS = text("""
UPDATE endpoints SET failing_since = coalesce(failing_since, now()) WHERE id = :id
RETURNING now() - failing_since AS lasting
""")

_DISABLE = text("""
UPDATE endpoints SET state = 'disabled', disabled_reason = :reason
WHERE id = :id AND state = 'enabled' RETURNING tenant_id, url
""")

_GIVE_UP = text("""
UPDATE outbox SET state = 'dead', last_error = 'the endpoint was disabled: ' || :reason
WHERE endpoint_id = :id AND state = 'pending'
""")

_TELL = text("""
INSERT INTO outbox (id, job_id, tenant_id, type, url, payload, endpoint_id)
SELECT gen_random_uuid(), :job_id, tenant_id, :type, url, CAST(:payload AS jsonb), id
FROM endpoints
WHERE tenant_id = :tenant_id AND state = 'enabled' AND (events = '{}' OR :type = ANY(events))
""")


def note(connection: Connection, endpoint_id: UUID, job_id: UUID, answer: Answer) -> None:
    """Write down what a try says of its endpoint; disable one that is gone, or fails for days."""
    if isinstance(answer, Answered) and answer.delivered:
        connection.execute(_LIVES, {"id": endpoint_id})
        return
    lasting = connection.execute(_FAILS, {"id": endpoint_id}).scalar_one()
    if isinstance(answer, Answered) and answer.status == GONE:
        disable(connection, endpoint_id, job_id, "it answered 410: it wants no more webhooks")
    elif lasting >= DISABLE_AFTER:
        disable(connection, endpoint_id, job_id, f"it has failed for {DISABLE_AFTER.days} days")


def disable(connection: Connection, endpoint_id: UUID, job_id: UUID, reason: str) -> None:
    """Send nothing more to an endpoint, give up what waits, and tell the tenant's other ones."""
    row = connection.execute(_DISABLE, {"id": endpoint_id, "reason": reason}).one_or_none()
    if row is None:
        return
    connection.execute(_GIVE_UP, {"id": endpoint_id, "reason": reason})
    payload = {
        "type": DISABLED,
        "timestamp": datetime.now(UTC).isoformat(),
        "data": {"id": str(endpoint_id), "url": row.url, "reason": reason},
    }
    values = {
        "job_id": job_id,
        "tenant_id": row.tenant_id,
        "type": DISABLED,
        "payload": json.dumps(payload),
    }
    connection.execute(_TELL, values)
    log.warning("endpoint disabled", endpoint_id=str(endpoint_id), reason=reason)
