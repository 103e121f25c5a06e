"""What tenants have used: images, GPU-seconds and money by tenant, day and model.

The transaction that ends a job writes one entry; the entries are added up in the background, so that
no two endings wait for one sum. Sums outlive the jobs. Days are UTC's. Only what was delivered is
counted: the time of attempts that came to nothing is the farm's loss, not the tenant's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text

from app.database import autocommit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from uuid import UUID

GROUPS = ("tenant", "model", "day")
FIGURES = ("jobs", "images", "cached", "gpu_seconds", "cost_usd")
_COLUMNS = {"tenant": "tenants.name", "model": "model", "day": "day"}
_ADD_UP = text("""
WITH gone AS (
    DELETE FROM usage_entries WHERE id IN (
        SELECT id FROM usage_entries ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING *
), added AS (
    INSERT INTO usage AS u
    SELECT tenant_id, day, model, count(*), sum(images), count(*) FILTER (WHERE cached),
           sum(gpu_seconds), sum(cost_usd)
    FROM gone GROUP BY tenant_id, day, model ORDER BY tenant_id, day, model
    ON CONFLICT (tenant_id, day, model) DO UPDATE SET
        jobs = u.jobs + excluded.jobs, images = u.images + excluded.images,
        cached = u.cached + excluded.cached,
        gpu_seconds = u.gpu_seconds + excluded.gpu_seconds,
        cost_usd = u.cost_usd + excluded.cost_usd
)
SELECT count(*) FROM gone
""")
# One statement, so one snapshot: an entry is seen on its own or in its sum, never in both.
_REPORT = """
SELECT {groups} sum(jobs)::bigint AS jobs, sum(images)::bigint AS images,
       sum(used.cached)::bigint AS cached, sum(gpu_seconds) AS gpu_seconds, sum(cost_usd) AS cost_usd
FROM (SELECT tenant_id, day, model, jobs, images, cached, gpu_seconds, cost_usd FROM usage
      UNION ALL
      SELECT tenant_id, day, model, 1, images, cached::int, gpu_seconds, cost_usd
      FROM usage_entries) AS used JOIN tenants ON tenants.id = used.tenant_id
WHERE (CAST(:tenant AS uuid) IS NULL OR used.tenant_id = :tenant)
  AND (CAST(:since AS date) IS NULL OR day >= :since)
  AND (CAST(:until AS date) IS NULL OR day < :until)
{grouped}
"""


@dataclass(frozen=True, slots=True)
class Span:
    """From the day `since` up to, and without, the day `until`. None: without end."""

    since: date | None = None
    until: date | None = None


def add_up(engine: Engine, limit: int = 10_000) -> int:
    """Move entries into the sums; how many."""
    with engine.begin() as connection:
        return int(connection.execute(_ADD_UP, {"limit": limit}).scalar_one())


def report(
    engine: Engine, by: Sequence[str] = (), span: Span | None = None, tenant: UUID | None = None
) -> list[dict[str, Any]]:
    """What was used, a row for each group of `by` (some of `GROUPS`), or one row for all."""
    span = span or Span()
    named = [f"{_COLUMNS[name]} AS {name}" for name in by]
    query = _REPORT.format(
        groups="".join(f"{column}, " for column in named),
        grouped=f"GROUP BY {_places(len(by))} ORDER BY {_places(len(by))}" if by else "",
    )
    values = {"tenant": tenant, "since": span.since, "until": span.until}
    with autocommit(engine).connect() as connection:
        rows = connection.execute(text(query), values).mappings()
        return [{name: row[name] or 0 for name in (*by, *FIGURES)} for row in rows]


def _places(count: int) -> str:
    return ", ".join(str(n + 1) for n in range(count))
