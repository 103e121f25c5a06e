"""Reads (queries) of jobs for the API. Nothing here changes a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text

from app.database import autocommit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from app.jobs.records import Row

POSITION_LIMIT = 10_000

_LIST = """
SELECT * FROM jobs WHERE tenant_id = :tenant_id
  AND (CAST(:status AS text) IS NULL OR status = :status)
  AND (CAST(:model AS text) IS NULL OR model = :model)
  AND (CAST(:before AS uuid) IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit
"""

_POSITION = """
SELECT count(*) FROM (
    SELECT 1 FROM jobs WHERE status = 'queued' AND model = :model
      AND (priority > :priority OR (priority = :priority AND created_at < :created_at))
    LIMIT :limit) AS ahead
"""


class Queries:
    """Reads jobs from the database. Safe from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = autocommit(engine)

    def job(self, tenant_id: UUID, job_id: UUID) -> tuple[Row, list[Row]] | None:
        """The job's row and its image rows, or none if the tenant has no such job."""
        rows = self._rows(
            "SELECT * FROM jobs WHERE id = :id AND tenant_id = :tenant_id",
            id=job_id,
            tenant_id=tenant_id,
        )
        if not rows:
            return None
        has_images = rows[0]["status"] == "succeeded"
        return rows[0], self.images([job_id]).get(job_id, []) if has_images else []

    def page(
        self,
        tenant_id: UUID,
        *,
        status: str | None = None,
        model: str | None = None,
        before: UUID | None = None,
        limit: int = 50,
    ) -> list[Row]:
        """Up to `limit` jobs of a tenant, newest first; with `before`, jobs older than that id."""
        values = {"status": status, "model": model, "before": before, "limit": limit}
        return self._rows(_LIST, tenant_id=tenant_id, **values)

    def images(self, job_ids: Sequence[UUID]) -> dict[UUID, list[Row]]:
        """The image rows of each of these jobs, in order; jobs without images are left out."""
        query = "SELECT * FROM images WHERE job_id = ANY(:ids) ORDER BY job_id, n"
        found: dict[UUID, list[Row]] = {}
        for row in self._rows(query, ids=list(job_ids)) if job_ids else ():
            found.setdefault(row["job_id"], []).append(row)
        return found

    def position(self, row: Row) -> int | None:
        """How many queued jobs of the model are ahead; none if the job is not queued.

        Counts by priority and age, no further than `POSITION_LIMIT`.
        """
        if row["status"] != "queued":
            return None
        values = {name: row[name] for name in ("model", "priority", "created_at")}
        return int(self._rows(_POSITION, limit=POSITION_LIMIT, **values)[0]["count"])

    def counts(self) -> dict[tuple[str, str], int]:
        """The number of queued and running jobs, by (model, status)."""
        query = """SELECT model, status, count(*) FROM jobs
                   WHERE status IN ('queued', 'running') GROUP BY model, status"""
        return {(r["model"], r["status"]): r["count"] for r in self._rows(query)}

    def _rows(self, sql: str, **values: Any) -> list[Row]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(sql), values).mappings()]
