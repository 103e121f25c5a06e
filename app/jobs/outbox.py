"""What a job's webhook asked to hear of, written in the transaction that made it true.

The payload names each image by its object key; the courier puts a freshly signed URL in its place
at each delivery, because a delivery may happen hours later and URLs expire.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from app.jobs import present
from app.jobs.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
INSERT INTO outbox (id, job_id, tenant_id, type, url, secret, payload)
SELECT :id, :job_id, tenants.id, :type, :url, webhook_secret, CAST(:payload AS jsonb)
FROM tenants WHERE tenants.id = :tenant_id
""")


def announce(
    connection: Connection, rows: Iterable[Mapping[str, Any]], event: str
) -> list[tuple[str, str]]:
    """Write the outbox rows that `event` calls for, and return the notices to send of them.

    Call after the images are written.
    """
    kind = WEBHOOK_TYPES.get(event)
    told = []
    for row in rows:
        hook = row["request"].get("webhook")
        if kind and hook and kind in (hook.get("events") or FINAL_TYPES):
            connection.execute(_INSERT, _delivery(connection, row, kind, hook["url"]))
            told.append(("outbox", ""))
    return told


def _delivery(
    connection: Connection, row: Mapping[str, Any], kind: str, url: str
) -> dict[str, Any]:
    job = present.job(row, present.images_of(connection, row["id"]), url_for=None)
    at = row["finished_at"] or row["started_at"] or row["created_at"]
    payload = {"type": kind, "timestamp": at.isoformat(), "data": job}
    return {
        "id": new_id(),
        "job_id": row["id"],
        "tenant_id": row["tenant_id"],
        "type": kind,
        "url": url,
        "payload": json.dumps(payload),
    }
