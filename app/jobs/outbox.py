"""Transactional outbox: webhooks are written in the transaction that changes the job.

The payload names each image by its object key. The courier replaces the key by a freshly signed URL
at each delivery, because a delivery may happen hours later and URLs expire.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from app.ids import new_id
from app.jobs import present

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
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

_ENDPOINTS = text("""
SELECT id, tenant_id, url FROM endpoints
WHERE tenant_id = ANY(CAST(:tenants AS uuid[])) AND state = 'enabled'
  AND (:type = ANY(events) OR (events = '{}' AND :final))
ORDER BY id
""")


def announce(
    connection: Connection, rows: Iterable[Mapping[str, Any]], event: str
) -> list[tuple[str, str]]:
    """Write the webhooks for an event of these jobs, and return the notices for the couriers.

    A webhook goes to the URL in the job's request and to each endpoint of its tenant, if they
    subscribe to the event. Call this after the job's images are written. Send the notices after the
    commit.
    """
    kind = WEBHOOK_TYPES.get(event)
    jobs = list(rows)
    if kind is None or not jobs:
        return []
    endpoints = _endpoints(connection, {row["tenant_id"] for row in jobs}, kind)
    webhooks: list[dict[str, Any]] = []
    for row in jobs:
        targets = [*_own_target(row, kind), *endpoints.get(row["tenant_id"], ())]
        if targets:
            webhooks += _webhooks(connection, row, kind, targets)
    write(connection, webhooks)
    return [("outbox", "")] * len(webhooks)


def write(connection: Connection, webhooks: Sequence[Mapping[str, Any]]) -> None:
    """Insert webhooks, each under a new id.

    Each has a `job_id`, `tenant_id`, `type`, `url`, `payload` (JSON as text) and `endpoint_id`.
    """
    if webhooks:
        connection.execute(_INSERT, [{**webhook, "id": new_id()} for webhook in webhooks])


Target = tuple["UUID | None", str]
"""An endpoint's id (none for the URL in the job's own request), and the URL."""


def _own_target(row: Mapping[str, Any], kind: str) -> list[Target]:
    hook = row["request"].get("webhook")
    wanted = hook and kind in (hook.get("events") or FINAL_TYPES)
    return [(None, hook["url"])] if wanted else []


def _endpoints(connection: Connection, tenants: set[UUID], kind: str) -> dict[UUID, list[Target]]:
    values = {"tenants": list(tenants), "type": kind, "final": kind in FINAL_TYPES}
    found: dict[UUID, list[Target]] = {}
    for row in connection.execute(_ENDPOINTS, values):
        found.setdefault(row.tenant_id, []).append((row.id, row.url))
    return found


def _webhooks(
    connection: Connection, row: Mapping[str, Any], kind: str, targets: list[Target]
) -> list[dict[str, Any]]:
    job = present.job(row, present.images_of(connection, row["id"]), url_for=None)
    at = row["finished_at"] or row["started_at"] or row["created_at"]
    payload = json.dumps({"type": kind, "timestamp": at.isoformat(), "data": job})
    return [
        {
            "job_id": row["id"],
            "tenant_id": row["tenant_id"],
            "type": kind,
            "url": url,
            "payload": payload,
            "endpoint_id": endpoint_id,
        }
        for endpoint_id, url in targets
    ]
