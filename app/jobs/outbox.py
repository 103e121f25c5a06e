"""What a job's webhook asked to hear of, written in the transaction that made it true.

The payload names each image by its object key; the courier puts a freshly signed URL in its place
at each delivery, because a delivery may happen hours later and URLs expire.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from app.ids import new_id
from app.jobs import present

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

WEBHOOK_TYPES = {
    "queued": "job.queued",
    "running": "job.started",
    "succeeded": "job.succeeded",
    "failed": "job.failed",
    "cancelled": "job.cancelled",
    "expired": "job.expired",
}
FINAL_TYPES = ("job.succeeded", "job.failed", "job.cancelled", "job.expired")

_INSERT = text("""
INSERT INTO outbox (id, job_id, tenant_id, type, url, payload, endpoint_id)
VALUES (:id, :job_id, :tenant_id, :type, :url, CAST(:payload AS jsonb), :endpoint_id)
""")

_LISTENING = text("""
SELECT id, tenant_id, url FROM endpoints
WHERE tenant_id = ANY(CAST(:tenants AS uuid[])) AND state = 'enabled'
  AND (:type = ANY(events) OR (events = '{}' AND :final))
ORDER BY id
""")


def announce(
    connection: Connection, rows: Iterable[Mapping[str, Any]], event: str
) -> list[tuple[str, str]]:
    """Write the outbox rows that `event` calls for, and return the notices to send of them.

    To the URL that the job names itself, and to each endpoint of its tenant that listens. Call
    after the images are written.
    """
    kind = WEBHOOK_TYPES.get(event)
    moved = list(rows)
    if kind is None or not moved:
        return []
    listening = _listening(connection, {row["tenant_id"] for row in moved}, kind)
    told = []
    for row in moved:
        targets = [*_own(row, kind), *listening.get(row["tenant_id"], ())]
        if targets:
            told += _write(connection, row, kind, targets)
    return told


Target = tuple["UUID | None", str]
"""An endpoint's id, none for the URL that the job itself named; and the URL."""


def _own(row: Mapping[str, Any], kind: str) -> list[Target]:
    hook = row["request"].get("webhook")
    wanted = hook and kind in (hook.get("events") or FINAL_TYPES)
    return [(None, hook["url"])] if wanted else []


def _listening(connection: Connection, tenants: set[UUID], kind: str) -> dict[UUID, list[Target]]:
    values = {"tenants": list(tenants), "type": kind, "final": kind in FINAL_TYPES}
    found: dict[UUID, list[Target]] = {}
    for row in connection.execute(_LISTENING, values):
        found.setdefault(row.tenant_id, []).append((row.id, row.url))
    return found


def _write(
    connection: Connection, row: Mapping[str, Any], kind: str, targets: list[Target]
) -> list[tuple[str, str]]:
    job = present.job(row, present.images_of(connection, row["id"]), url_for=None)
    at = row["finished_at"] or row["started_at"] or row["created_at"]
    payload = json.dumps({"type": kind, "timestamp": at.isoformat(), "data": job})
    values = [
        {
            "id": new_id(),
            "job_id": row["id"],
            "tenant_id": row["tenant_id"],
            "type": kind,
            "url": url,
            "payload": payload,
            "endpoint_id": endpoint_id,
        }
        for endpoint_id, url in targets
    ]
    connection.execute(_INSERT, values)
    return [("outbox", "")] * len(values)
