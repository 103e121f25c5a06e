"""Usage (metering, for billing): images, GPU-seconds and cost by tenant, day and model.

The transaction that completes a job writes one entry. A background task adds the entries up, so
that no two transactions wait for the row of one sum. Sums outlive the jobs. Days are days in UTC.
Only succeeded jobs count: the tenant does not pay for the time of attempts that failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text

from app.database import autocommit
from app.errors import FieldError, InvalidRequest

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
# One statement sees one snapshot, in which an entry is either on its own or in its sum.
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
    """From the day `since` up to, and without, the day `until`. None means no bound."""

    since: date | None = None
    until: date | None = None


def add_up(engine: Engine, limit: int = 10_000) -> int:
    """Move up to `limit` entries into the sums; returns how many."""
    with engine.begin() as connection:
        return int(connection.execute(_ADD_UP, {"limit": limit}).scalar_one())


def report(
    engine: Engine, by: Sequence[str] = (), span: Span | None = None, tenant: UUID | None = None
) -> list[dict[str, Any]]:
    """The usage in a span: one row for each group of `by` (some of `GROUPS`), or one for all."""
    span = span or Span()
    columns = [f"{_COLUMNS[name]} AS {name}" for name in by]
    numbers = ", ".join(str(n + 1) for n in range(len(by)))
    query = _REPORT.format(
        groups="".join(f"{column}, " for column in columns),
        grouped=f"GROUP BY {numbers} ORDER BY {numbers}" if by else "",
    )
    values = {"tenant": tenant, "since": span.since, "until": span.until}
    with autocommit(engine).connect() as connection:
        rows = connection.execute(text(query), values).mappings()
        return [{name: row[name] or 0 for name in (*by, *FIGURES)} for row in rows]


def groups_of(names: str) -> list[str]:
    """The groups that a comma-separated list names, in its order; raises `InvalidRequest`."""
    groups = [part.strip() for part in names.split(",") if part.strip()]
    if set(groups) - set(GROUPS) or len(set(groups)) != len(groups):
        message = f"must be some of {', '.join(GROUPS)}, each once, separated by commas"
        raise InvalidRequest(f"by {message}", (FieldError("by", message),))
    return groups
