"""The database schema as SQLAlchemy tables. The migrations create it; a test compares the two.

CHECKs and triggers are in the migrations alone. Postgres enforces them for every writer.
"""

from __future__ import annotations

from app.tables.base import metadata
from app.tables.intake import rejects
from app.tables.jobs import events, images, jobs
from app.tables.tenants import keys, rates, tenants, usage, usage_entries
from app.tables.webhooks import endpoints, outbox, tries
from app.tables.workers import workers

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
