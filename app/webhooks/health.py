"""Endpoint health (circuit breaker): what a try shows of its endpoint, and disabling it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, text

from app.jobs import outbox
from app.webhooks.schedule import GONE, Answered, Unanswered

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
UPDATE endpoints SET failing_since = coalesce(failing_since, now())
WHERE id = :id AND state = 'enabled' RETURNING now() - failing_since AS lasting
""")

_DISABLE = text("""
UPDATE endpoints SET state = 'disabled', disabled_reason = :reason
WHERE id = :id AND state = 'enabled' RETURNING tenant_id, url
""")

_GIVE_UP = text("""
UPDATE outbox SET state = 'dead', last_error = 'the endpoint was ' || :reason
WHERE id IN (SELECT id FROM outbox WHERE endpoint_id = :id AND state = 'pending'
             FOR UPDATE SKIP LOCKED)
""")

_LISTENING = text("""
SELECT id AS endpoint_id, url FROM endpoints
WHERE tenant_id = :tenant_id AND state = 'enabled' AND (events = '{}' OR :type = ANY(events))
""")


def note(connection: Connection, endpoint_id: UUID, job_id: UUID, answer: Answer) -> None:
    """Record what a try shows of its endpoint. Disable one that is gone, or fails for days."""
    if isinstance(answer, Answered) and answer.delivered:
        connection.execute(_LIVES, {"id": endpoint_id})
        return
    if isinstance(answer, Unanswered) and answer.ours:
        return
    lasting = connection.execute(_FAILS, {"id": endpoint_id}).scalar_one_or_none()
    if lasting is None:  # it was disabled or removed meanwhile
        return
    if isinstance(answer, Answered) and answer.status == GONE:
        disable(connection, endpoint_id, job_id, "it answered 410 Gone")
    elif lasting >= DISABLE_AFTER:
        disable(connection, endpoint_id, job_id, f"it has failed for {DISABLE_AFTER.days} days")


def give_up(connection: Connection, endpoint_id: UUID, reason: str) -> None:
    """Mark the endpoint's pending deliveries dead; `reason` is the text shown, such as "removed".

    A delivery that a courier holds is not touched: waiting for it would be a deadlock, because this
    transaction holds the endpoint. If that delivery becomes pending again, it is found dead when it
    is due.
    """
    connection.execute(_GIVE_UP, {"id": endpoint_id, "reason": reason})


def disable(connection: Connection, endpoint_id: UUID, job_id: UUID, reason: str) -> None:
    """Disable an endpoint, give up its deliveries, and notify the tenant's other endpoints."""
    row = connection.execute(_DISABLE, {"id": endpoint_id, "reason": reason}).one_or_none()
    if row is None:
        return
    give_up(connection, endpoint_id, f"disabled: {reason}")
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
    others = connection.execute(_LISTENING, values).mappings().all()
    if others:
        outbox.write(connection, [{**values, **other} for other in others])
    log.warning("endpoint_disabled", endpoint_id=str(endpoint_id), reason=reason)
