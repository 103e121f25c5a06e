"""The only statements that change a job. Each is one guarded statement, with its event beside it.

A guard that does not hold changes nothing and the statement answers with no row: that is an answer,
not an error. Leases and deadlines are read off the database's clock alone, so the clocks of the
machines may differ.

Who waits is told after the commit, never in it (see `Notices`).

Every statement is built on `_MOVE`: the guarded UPDATE, its event, and the moved rows. What a job's
webhook asks to hear of is written to the outbox in the same transaction.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text

from app.errors import IdempotencyConflict, OverQuota
from app.jobs import outbox
from app.jobs.notices import Notices, moved
from app.jobs.records import Claim, Costs, Failure, NewImage, NewJob, Row, Stored
from app.jobs.states import retry_delay_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

_MOVE = """
WITH moved AS ({update} RETURNING jobs.*),
logged AS (
    INSERT INTO events (job_id, type, attempt, data)
    SELECT id, {event}, attempt, {data} FROM moved
)
SELECT * FROM moved
"""

_INSERT = """
WITH moved AS (
    INSERT INTO jobs (id, tenant_id, idempotency_key, request_hash, request, trace, model,
                      priority, steps, deadline_at)
    SELECT id, tenant_id, idempotency_key, decode(request_hash, 'hex'), request, trace,
           request->>'model', (request->>'priority')::smallint,
           (request->>'num_inference_steps')::integer,
           now() + make_interval(secs => (request->>'deadline_s')::double precision)
    FROM jsonb_to_recordset(CAST(:jobs AS jsonb))
         AS new(id uuid, tenant_id uuid, idempotency_key text, request_hash text, request jsonb,
                trace text)
    ORDER BY tenant_id, idempotency_key
    ON CONFLICT DO NOTHING
    RETURNING *
), logged AS (
    INSERT INTO events (job_id, type, attempt) SELECT id, 'queued', 0 FROM moved
)
SELECT * FROM moved
"""

_IMAGES = """
INSERT INTO images (job_id, n, key, width, height, content_type, bytes, sha256, seed)
SELECT CAST(:id AS uuid), n, key, width, height, content_type, bytes, sha256, seed
FROM jsonb_to_recordset(CAST(:images AS jsonb))
     AS new(n integer, key text, width integer, height integer, content_type text,
            bytes bigint, sha256 text, seed bigint)
"""


def _move(update: str, event: str, data: str = "'{}'::jsonb") -> str:
    return _MOVE.format(update=update, event=event, data=data)


_CLAIM = _move(
    """UPDATE jobs SET status = 'running', attempt = attempt + 1, worker_id = :worker,
           lease_until = now() + make_interval(secs => :lease_s), started_at = now(),
           hinted_at = NULL, step = 0
       WHERE id = :id AND status = 'queued' AND run_after <= now() AND deadline_at > now()""",
    "'running'",
    "jsonb_build_object('worker', worker_id)",
)

_RENEW = """
WITH held AS (
    SELECT * FROM jsonb_to_recordset(CAST(:held AS jsonb)) AS h(id uuid, attempt integer, step integer)
), renewed AS (
    UPDATE jobs SET lease_until = now() + make_interval(secs => :lease_s),
                    step = greatest(jobs.step, least(held.step, steps))
    FROM held
    WHERE jobs.id = held.id AND jobs.attempt = held.attempt AND status = 'running'
    RETURNING jobs.id, jobs.attempt
)
SELECT id, attempt FROM renewed
"""

_SUCCEED = _move(
    """UPDATE jobs SET status = 'succeeded', finished_at = now(), lease_until = NULL, step = steps,
           error = NULL, render_s = :render_s, store_s = :store_s,
           gpu_seconds = gpu_seconds + :gpu_seconds, cost_usd = cost_usd + :cost_usd
       WHERE id = :id AND attempt = :attempt AND status = 'running'""",
    "'succeeded'",
)

_FAIL = _move(
    """UPDATE jobs SET status = 'failed', finished_at = now(), lease_until = NULL,
           failures = failures + 1, error = CAST(:error AS jsonb)
       WHERE id = :id AND attempt = :attempt AND status = 'running'
         AND (NOT :transient OR failures + 1 >= :max_failures)""",
    "'failed'",
    "error",
)

_RETRY = _move(
    """UPDATE jobs SET status = 'queued', lease_until = NULL, hinted_at = NULL, step = 0,
           failures = failures + 1, error = CAST(:error AS jsonb),
           run_after = now() + make_interval(secs => (CAST(:delays AS double precision[]))[failures + 1])
       WHERE id = :id AND attempt = :attempt AND status = 'running'
         AND failures + 1 < :max_failures""",
    "'retried'",
    "error",
)

_RELEASE = _move(
    """UPDATE jobs SET status = 'queued', lease_until = NULL, hinted_at = NULL, step = 0,
           releases = releases + 1, checkpoint = coalesce(:checkpoint, checkpoint)
       WHERE id = :id AND attempt = :attempt AND status = 'running'""",
    "'released'",
)

_CANCEL = _move(
    """UPDATE jobs SET status = 'cancelled', finished_at = now(), lease_until = NULL
       WHERE id = :id AND tenant_id = :tenant_id AND status IN ('queued', 'running')""",
    "'cancelled'",
)

_RESCUE = _move(
    """UPDATE jobs SET status = CASE WHEN spent THEN 'failed' ELSE 'queued' END,
           crashes = crashes + 1, lease_until = NULL, hinted_at = NULL, step = 0,
           finished_at = CASE WHEN spent THEN now() END,
           error = CASE WHEN spent THEN jsonb_build_object('code', 'worker_lost', 'message',
               'the worker was lost ' || crashes + 1 || ' times while it rendered this job') END
       FROM (SELECT id AS lost_id, crashes + 1 >= :max_crashes AS spent FROM jobs
             WHERE status = 'running' AND lease_until < now()
             ORDER BY lease_until LIMIT :limit FOR UPDATE SKIP LOCKED) AS lost
       WHERE id = lost_id""",
    "CASE status WHEN 'queued' THEN 'rescued' ELSE 'failed' END",
    "jsonb_build_object('worker', worker_id)",
)

_EXPIRE = _move(
    """UPDATE jobs SET status = 'expired', finished_at = now(), lease_until = NULL
       FROM (SELECT id AS late_id FROM jobs
             WHERE status IN ('queued', 'running') AND deadline_at < now()
             ORDER BY deadline_at LIMIT :limit FOR UPDATE SKIP LOCKED) AS late
       WHERE id = late_id""",
    "'expired'",
)

# A hint changes no state: it only notes when the workers were last told.
_HINT = """
UPDATE jobs SET hinted_at = now() WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'queued'
RETURNING id, attempt, request
"""


class Store:
    """Moves jobs from state to state. Safe from any thread; holds nothing but the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._notices = Notices(engine)

    def insert(self, new: Sequence[NewJob], max_queued: int) -> list[Stored]:
        """Store one tenant's submissions, all or none; each answers with its row, new or old.

        Raises `IdempotencyConflict` where a key was used before with another body, and `OverQuota`
        if more than `max_queued` jobs of the tenant would wait.
        """
        values = json.dumps([_new_job(job) for job in new])
        with self._engine.begin() as connection:
            made = {row["id"]: row for row in _run(connection, _INSERT, jobs=values)}
            if made:
                _check_quota(connection, new[0], max_queued)
            told = outbox.announce(connection, made.values(), "queued")
            first = {job.id: job for job in reversed(new) if job.id in made}
            repeats = [job for job in new if first.get(job.id) is not job]
            old = _same_jobs(connection, repeats) if repeats else {}
        self._notices.send([*told, *(moved(row["id"], "queued") for row in made.values())])
        return [
            Stored(made[job.id], created=True)
            if first.get(job.id) is job
            else Stored(old[job.idempotency_key], created=False)
            for job in new
        ]

    def claim(self, job_id: UUID, worker_id: str, lease_s: float) -> Claim | None:
        """Queued -> running, for this worker; none if another has it or it is not due."""
        rows = self._move(_CLAIM, "running", id=job_id, worker=worker_id, lease_s=lease_s)
        return next(
            (
                Claim(
                    r["id"],
                    r["tenant_id"],
                    r["attempt"],
                    r["request"],
                    alone=r["crashes"] > 0,
                    checkpoint=r["checkpoint"],
                )
                for r in rows
            ),
            None,
        )

    def renew(self, held: Mapping[tuple[UUID, int], int], lease_s: float) -> set[tuple[UUID, int]]:
        """Lengthen the leases of `(id, attempt) -> step` and note the steps; those still held."""
        values = [{"id": str(i), "attempt": a, "step": step} for (i, a), step in held.items()]
        with self._engine.begin() as connection:
            rows = _run(connection, _RENEW, held=json.dumps(values), lease_s=lease_s)
        self._notices.send([moved(row["id"], "progress") for row in rows])
        return {(row["id"], row["attempt"]) for row in rows}

    def succeed(self, job_id: UUID, attempt: int, images: Sequence[NewImage], costs: Costs) -> bool:
        """Running -> succeeded with its images; false if the attempt is no longer this one."""
        with self._engine.begin() as connection:
            rows = _run(connection, _SUCCEED, id=job_id, attempt=attempt, **asdict(costs))
            if rows:
                values = json.dumps([asdict(image) for image in images])
                connection.execute(text(_IMAGES), {"id": job_id, "images": values})
                told = outbox.announce(connection, rows, "succeeded")
        if rows:
            self._notices.send([*told, moved(job_id, "succeeded")])
        return bool(rows)

    def fail(self, job_id: UUID, attempt: int, failure: Failure, max_failures: int) -> str | None:
        """Running -> failed, or -> queued for a transient failure with budget left.

        Answers the event it wrote, or none if the attempt is no longer this one.
        """
        guard = {"id": job_id, "attempt": attempt, "max_failures": max_failures}
        error = json.dumps({"code": failure.code, "message": failure.message})
        if failure.transient:
            delays = [retry_delay_s(n) for n in range(1, max_failures + 1)]
            if self._move(_RETRY, "retried", error=error, delays=delays, **guard):
                return "retried"
        moved = self._move(_FAIL, "failed", error=error, transient=failure.transient, **guard)
        return "failed" if moved else None

    def release(self, job_id: UUID, attempt: int, checkpoint: str | None = None) -> bool:
        """Running -> queued at no cost to the job; false if the attempt is no longer this one.

        `checkpoint` is the key of an object to go on from; without a new one, an old one stays.
        """
        values = {"id": job_id, "attempt": attempt, "checkpoint": checkpoint}
        return bool(self._move(_RELEASE, "released", **values))

    def cancel(self, job_id: UUID, tenant_id: UUID) -> bool:
        """Queued or running -> cancelled; false if it has ended or is another tenant's."""
        return bool(self._move(_CANCEL, "cancelled", id=job_id, tenant_id=tenant_id))

    def rescue(self, max_crashes: int, limit: int = 100) -> list[UUID]:
        """Take jobs back whose lease ran out; those whose budget is spent fail. Their ids."""
        rows = self._move(_RESCUE, None, max_crashes=max_crashes, limit=limit)
        return [row["id"] for row in rows]

    def expire(self, limit: int = 100) -> list[UUID]:
        """End jobs whose deadline has passed, waiting or running. Their ids."""
        return [row["id"] for row in self._move(_EXPIRE, "expired", limit=limit)]

    def hint(self, ids: Sequence[UUID]) -> list[Row]:
        """Note that the workers are being told of these jobs; the rows still queued, in order."""
        place = {job_id: n for n, job_id in enumerate(ids)}
        with self._engine.begin() as connection:
            rows = _run(connection, _HINT, ids=list(ids))
        return sorted(rows, key=lambda row: place[row["id"]])

    def _move(self, sql: str, event: str | None, **values: Any) -> list[Row]:
        with self._engine.begin() as connection:
            rows = _run(connection, sql, **values)
            told = []
            for row in rows:
                named = event or _event_of(row)
                told += [*outbox.announce(connection, [row], named), moved(row["id"], named)]
        self._notices.send(told)
        return rows


def _event_of(row: Row) -> str:
    return "failed" if row["status"] == "failed" else "rescued"


def _new_job(job: NewJob) -> dict[str, Any]:
    return {
        "id": str(job.id),
        "tenant_id": str(job.tenant_id),
        "idempotency_key": job.idempotency_key,
        "request_hash": job.request_hash.hex(),
        "request": dict(job.request),
        "trace": job.trace,
    }


def _same_jobs(connection: Connection, repeats: Sequence[NewJob]) -> dict[str, Row]:
    """The jobs that were stored before under these keys; raises `IdempotencyConflict`."""
    rows = _run(
        connection,
        """SELECT jobs.* FROM jobs JOIN unnest(CAST(:tenants AS uuid[]), CAST(:keys AS text[]))
           AS wanted(tenant, key) ON tenant_id = tenant AND idempotency_key = key""",
        tenants=[job.tenant_id for job in repeats],
        keys=[job.idempotency_key for job in repeats],
    )
    old = {row["idempotency_key"]: row for row in rows}
    for job in repeats:
        _check_same(job, old.get(job.idempotency_key))
    return old


def _check_quota(connection: Connection, job: NewJob, max_queued: int) -> None:
    """Raise `OverQuota` when too many wait, the new ones included; counts no further than that."""
    (row,) = _run(
        connection,
        """SELECT count(*) FROM (SELECT 1 FROM jobs WHERE tenant_id = :tenant_id
           AND status = 'queued' LIMIT :most) AS waiting""",
        tenant_id=job.tenant_id,
        most=max_queued + 1,
    )
    if row["count"] > max_queued:
        raise OverQuota(f"at most {max_queued} jobs may be queued", retry_after_s=5)


def _check_same(job: NewJob, row: Row | None) -> None:
    if row is None:  # the id is another tenant's: say no more than that it cannot be had
        raise IdempotencyConflict(f"the id {job.id} is in use")
    before = bytes(row["request_hash"])
    if before != job.request_hash:
        raise IdempotencyConflict(
            f"the key {job.idempotency_key!r} was used with another body: "
            f"its hash is {before.hex()}, this one's {job.request_hash.hex()}"
        )


def _run(connection: Connection, sql: str, **values: Any) -> list[Row]:
    return [dict(row) for row in connection.execute(text(sql), values).mappings()]
