"""The records, as the program sees them. The migrations make them; a test compares the two.

CHECKs and triggers live in the migrations alone: Postgres enforces them whoever writes.
"""

from __future__ import annotations

from app.tables.base import metadata
from app.tables.farm import rejects, workers
from app.tables.jobs import events, images, jobs
from app.tables.tenants import keys, rates, tenants, usage, usage_entries
from app.tables.webhooks import endpoints, outbox, tries

__all__ = [
    "endpoints",
    "events",
    "images",
    "jobs",
    "keys",
    "metadata",
    "outbox",
    "rates",
    "rejects",
    "tenants",
    "tries",
    "usage",
    "usage_entries",
    "workers",
]
