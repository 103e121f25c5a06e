"""Audit (consistency check): invariants of the database, each a query that finds its violations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Engine

# The reaper looks once a second. A lease or a deadline that ended 30 s ago is a breach.
INVARIANTS: dict[str, str] = {
    "a final job has exactly one final event, equal to its status": """
        SELECT j.id FROM jobs j LEFT JOIN events e ON e.job_id = j.id
          AND e.type IN ('succeeded', 'failed', 'cancelled', 'expired')
        WHERE j.status IN ('succeeded', 'failed', 'cancelled', 'expired')
        GROUP BY j.id, j.status HAVING count(e.id) <> 1 OR max(e.type) <> j.status""",
    "a job that is not final has no final event": """
        SELECT j.id FROM jobs j JOIN events e ON e.job_id = j.id
        WHERE j.status IN ('queued', 'running')
          AND e.type IN ('succeeded', 'failed', 'cancelled', 'expired')""",
    "every job has exactly one queued event": """
        SELECT j.id FROM jobs j LEFT JOIN events e ON e.job_id = j.id AND e.type = 'queued'
        GROUP BY j.id HAVING count(e.id) <> 1""",
    "each attempt has exactly one running event": """
        SELECT j.id FROM jobs j LEFT JOIN events e ON e.job_id = j.id AND e.type = 'running'
        GROUP BY j.id, j.attempt
        HAVING count(e.id) <> j.attempt OR count(DISTINCT e.attempt) <> j.attempt""",
    "each attempt ended at most once": """
        SELECT job_id FROM events
        WHERE type IN ('retried', 'rescued', 'released', 'succeeded', 'failed')
        GROUP BY job_id, attempt HAVING count(*) > 1""",
    "a succeeded job has every image that its request asks for, of its last attempt": """
        SELECT j.id FROM jobs j LEFT JOIN images i ON i.job_id = j.id
          AND i.key LIKE '%/' || j.id || '/' || j.attempt || '/%'
        WHERE j.status = 'succeeded' AND NOT j.cached AND j.images_gone_at IS NULL
        GROUP BY j.id, j.request HAVING count(i.n) <> (j.request->>'num_images')::integer""",
    "a job answered from the cache has every image that its request asks for": """
        SELECT j.id FROM jobs j LEFT JOIN images i ON i.job_id = j.id
        WHERE j.cached AND j.images_gone_at IS NULL
        GROUP BY j.id, j.request HAVING count(i.n) <> (j.request->>'num_images')::integer""",
    "a job whose images aged out has no images": """
        SELECT DISTINCT j.id FROM jobs j JOIN images i ON i.job_id = j.id
        WHERE j.images_gone_at IS NOT NULL""",
    "every succeeded job is counted in the usage": """
        SELECT max(j.id::text) FROM jobs j LEFT JOIN (
            SELECT tenant_id, day, model, sum(jobs) AS jobs FROM (
                SELECT tenant_id, day, model, jobs FROM usage
                UNION ALL SELECT tenant_id, day, model, 1 FROM usage_entries) AS each
            GROUP BY 1, 2, 3) AS used
          ON used.tenant_id = j.tenant_id AND used.model = j.model
          AND used.day = (j.finished_at AT TIME ZONE 'UTC')::date
        WHERE j.status = 'succeeded'
        GROUP BY j.tenant_id, j.model, (j.finished_at AT TIME ZONE 'UTC')::date, used.jobs
        HAVING count(*) > coalesce(used.jobs, 0)""",
    "a tenant has at most max_running jobs running": """
        SELECT max(j.id::text) FROM jobs j JOIN tenants t ON t.id = j.tenant_id
        WHERE j.status = 'running' GROUP BY t.id HAVING count(*) > t.max_running""",
    "only succeeded jobs have images": """
        SELECT DISTINCT j.id FROM jobs j JOIN images i ON i.job_id = j.id
        WHERE j.status <> 'succeeded'""",
    "the counters agree with the events": """
        SELECT j.id FROM jobs j LEFT JOIN events e ON e.job_id = j.id
        GROUP BY j.id
        HAVING count(*) FILTER (WHERE e.type = 'released') <> j.releases
            OR count(*) FILTER (WHERE e.type = 'rescued') > j.crashes
            OR count(*) FILTER (WHERE e.type = 'retried') > j.failures
            OR count(*) FILTER (WHERE e.type IN ('rescued', 'retried', 'failed'))
               <> j.crashes + j.failures""",
    "no running job's lease ended more than 30 s ago": """
        SELECT id FROM jobs WHERE status = 'running'
          AND lease_until < now() - interval '30 s'""",
    "no deadline of a job that is not final passed more than 30 s ago": """
        SELECT id FROM jobs WHERE status IN ('queued', 'running')
          AND deadline_at < now() - interval '30 s'""",
    "the webhook of a final job is in the outbox": """
        SELECT j.id FROM jobs j LEFT JOIN outbox o ON o.job_id = j.id
          AND o.type = 'job.' || j.status AND o.endpoint_id IS NULL
        WHERE j.status IN ('succeeded', 'failed', 'cancelled', 'expired')
          AND jsonb_typeof(j.request->'webhook') = 'object'
          AND (j.request->'webhook'->'events' = '[]'
               OR j.request->'webhook'->'events' ? ('job.' || j.status))
        GROUP BY j.id HAVING count(o.id) <> 1""",
}


@dataclass(frozen=True, slots=True)
class Breach:
    """A violated invariant, and the ids of the jobs that violate it."""

    invariant: str
    job_ids: tuple[str, ...]


def audit(engine: Engine) -> list[Breach]:
    """Check every invariant in one snapshot; returns the breaches, an empty list if none."""
    breaches = []
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        for invariant, query in INVARIANTS.items():
            ids = connection.execute(text(query)).scalars().all()
            if ids:
                breaches.append(Breach(invariant, tuple(str(job_id) for job_id in ids)))
    return breaches
