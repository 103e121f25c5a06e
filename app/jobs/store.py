"""The job store (repository): the only code that changes a job, by the guarded `statements`.

If a guard does not hold, the statement changes nothing and returns no row. That is an answer, not
an error. Each move writes its webhooks to the outbox in the same transaction, and sends its notices
after the commit (see `Notices` for why).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text

from app.database import autocommit
from app.jobs import idempotency, outbox, statements
from app.jobs.records import AttemptCosts, Claim, Failure, NewImage, NewJob, Row, Stored
from app.jobs.states import retry_delay_s
from app.notify import Notices, moved
from app.tenants import limits
from app.tenants.limits import Quota, over_queued

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from app.tenants.tenants import Tenant


class Store:
    """Moves jobs from state to state. Safe from any thread; keeps no job in memory."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._notices = Notices(engine)
        self._quota = Quota()

    def insert(self, new: Sequence[NewJob], max_queued: int) -> list[Stored]:
        """Store one tenant's submissions, all or none; returns the row of each, new or existing.

        Raises `IdempotencyConflict` if a key was used before with another body, and `OverQuota` if
        the tenant would have more than `max_queued` queued jobs.
        """
        tenant = new[0].tenant_id
        if self._quota.full(tenant):
            return self._repeats(new, max_queued)
        values = json.dumps([_new_job(job) for job in new])
        with self._engine.begin() as connection:
            must_count = self._quota.enter(connection, tenant, max_queued, len(new))
            created = {row["id"]: row for row in _run(connection, statements.INSERT, jobs=values)}
            if created and must_count:
                self._quota.check(connection, tenant, max_queued)
            notices = outbox.announce(connection, created.values(), "queued")
            notices += [moved(job_id, "queued") for job_id in created]
            # The list may name one id twice: its first submission created the job.
            first = {job.id: job for job in reversed(new) if job.id in created}
            for job in first.values():
                if job.reuse and (row := _answer_from_cache(connection, job)):
                    created[job.id] = row
                    notices += outbox.announce(connection, [row], "succeeded")
                    notices.append(moved(job.id, "succeeded"))
            repeats = [job for job in new if first.get(job.id) is not job]
            existing = idempotency.existing(connection, repeats) if repeats else {}
        self._notices.send(notices)
        return [
            Stored(created[job.id], created=True)
            if first.get(job.id) is job
            else Stored(existing[job.idempotency_key], created=False)
            for job in new
        ]

    def _repeats(self, new: Sequence[NewJob], max_queued: int) -> list[Stored]:
        """The existing jobs of these keys; raises `OverQuota` if some keys have no job yet."""
        with autocommit(self._engine).connect() as connection:
            rows = idempotency.by_key(connection, new)
            if any(job.idempotency_key not in rows for job in new):
                raise over_queued(max_queued)
            existing = idempotency.existing(connection, new)
        return [Stored(existing[job.idempotency_key], created=False) for job in new]

    def holds(self, tenant_id: UUID, key: str) -> bool:
        """Whether the tenant has a job under this idempotency key."""
        with autocommit(self._engine).connect() as connection:
            values = {"tenant": tenant_id, "key": key}
            query = "SELECT FROM jobs WHERE tenant_id = :tenant AND idempotency_key = :key"
            return connection.execute(text(query), values).one_or_none() is not None

    def check_day(self, tenant: Tenant) -> None:
        """Raise `OverQuota` if the tenant has used up today's GPU-seconds."""
        limits.check_day(self._engine, tenant)

    def claim(
        self, job_id: UUID, worker_id: str, lease_s: float, *, exclusive: bool | None = None
    ) -> Claim | None:
        """Queued -> running, held by this worker for `lease_s`; none if the job cannot be claimed.

        It cannot if it is not queued, not due or past its deadline, or if its tenant has
        `max_running` jobs running. A suspect, a job whose worker was lost, must run exclusively.
        `exclusive=True` claims only suspects, False only other jobs, None both.
        """
        with self._engine.begin() as connection:
            values = {"id": job_id, "worker": worker_id, "lease_s": lease_s, "exclusive": exclusive}
            rows = _run(connection, statements.CLAIM, **values)
            if not rows:
                return None
            if not _may_run(connection, rows[0]):
                connection.rollback()
                return None
            notices = outbox.announce(connection, rows, "running")
        self._notices.send([*notices, moved(job_id, "running")])
        (row,) = rows
        return Claim(
            id=row["id"],
            tenant_id=row["tenant_id"],
            attempt=row["attempt"],
            request=row["request"],
            exclusive=row["crashes"] > 0,
            checkpoint=row["checkpoint"],
        )

    def is_suspect(self, job_id: UUID) -> bool:
        """Whether the job is queued and must run exclusively, because it lost a worker before."""
        query = "SELECT id FROM jobs WHERE id = :id AND status = 'queued' AND crashes > 0"
        with autocommit(self._engine).connect() as connection:
            return bool(_run(connection, query, id=job_id))

    def renew(self, held: Mapping[tuple[UUID, int], int], lease_s: float) -> set[tuple[UUID, int]]:
        """Renew the leases of `held`, which maps (id, attempt) to a step; returns those still held.

        The new leases end `lease_s` from now; with 0 they end at once.
        """
        values = [{"id": str(i), "attempt": a, "step": step} for (i, a), step in held.items()]
        with self._engine.begin() as connection:
            rows = _run(connection, statements.RENEW, held=json.dumps(values), lease_s=lease_s)
        self._notices.send([moved(row["id"], "progress") for row in rows])
        return {(row["id"], row["attempt"]) for row in rows}

    def succeed(
        self,
        job_id: UUID,
        attempt: int,
        images: Sequence[NewImage],
        costs: AttemptCosts,
        cache_key: bytes | None = None,
    ) -> bool:
        """Running -> succeeded, with its images; false if this is no longer the job's attempt.

        `cache_key` is made with the revision of the weights that the worker used. Without it, the
        job keeps the key of its submission.
        """
        values = asdict(costs) | {"cache_key": cache_key.hex() if cache_key else None}
        with self._engine.begin() as connection:
            rows = _run(connection, statements.SUCCEED, id=job_id, attempt=attempt, **values)
            if rows:
                image_rows = json.dumps([asdict(image) for image in images])
                connection.execute(text(statements.IMAGES), {"id": job_id, "images": image_rows})
                notices = outbox.announce(connection, rows, "succeeded")
        if rows:
            self._notices.send([*notices, moved(job_id, "succeeded")])
        return bool(rows)

    def fail(self, job_id: UUID, attempt: int, failure: Failure, max_failures: int) -> str | None:
        """Running -> failed, or -> queued if the failure is transient and budget remains.

        The budget is `max_failures`. Returns the event that was written, `failed` or `retried`, or
        none if this is no longer the job's attempt.
        """
        guard = {"id": job_id, "attempt": attempt, "max_failures": max_failures}
        error = json.dumps({"code": failure.code, "message": failure.message})
        if failure.transient:
            delays = [retry_delay_s(n) for n in range(1, max_failures + 1)]
            if self._move(statements.RETRY, "retried", error=error, delays=delays, **guard):
                return "retried"
        rows = self._move(
            statements.FAIL, "failed", error=error, transient=failure.transient, **guard
        )
        return "failed" if rows else None

    def release(
        self, job_id: UUID, attempt: int, delay_s: float = 0.0, checkpoint: str | None = None
    ) -> bool:
        """Running -> queued, due after `delay_s`. A release uses up no budget of the job.

        `checkpoint` is the key of an object from which the next attempt resumes; without it, the
        job keeps an earlier one. False if this is no longer the job's attempt.
        """
        values = {"id": job_id, "attempt": attempt, "delay_s": delay_s, "checkpoint": checkpoint}
        return bool(self._move(statements.RELEASE, "released", **values))

    def cancel(self, job_id: UUID, tenant_id: UUID) -> bool:
        """Queued or running -> cancelled; false if the job is final or another tenant's."""
        return bool(self._move(statements.CANCEL, "cancelled", id=job_id, tenant_id=tenant_id))

    def rescue(self, max_crashes: int, limit: int = 100) -> list[UUID]:
        """Running -> queued for jobs whose lease ran out; those with `max_crashes` crashes fail.

        Moves at most `limit` jobs; returns their ids.
        """
        rows = self._move(statements.RESCUE, None, max_crashes=max_crashes, limit=limit)
        return [row["id"] for row in rows]

    def expire(self, limit: int = 100) -> list[UUID]:
        """Queued or running -> expired for at most `limit` jobs past their deadline; their ids."""
        return [row["id"] for row in self._move(statements.EXPIRE, "expired", limit=limit)]

    def hint(self, ids: Sequence[UUID]) -> list[Row]:
        """Record that hints of these jobs go to the workers; the rows that are queued, in order."""
        position = {job_id: n for n, job_id in enumerate(ids)}
        with self._engine.begin() as connection:
            rows = _run(connection, statements.HINT, ids=list(ids))
        return sorted(rows, key=lambda row: position[row["id"]])

    def age_images(self, limit: int) -> list[str]:
        """Delete image rows older than their tenant keeps images, of at most `limit` jobs.

        Returns the object keys.
        """
        with self._engine.begin() as connection:
            return [row["key"] for row in _run(connection, statements.AGED_IMAGES, limit=limit)]

    def age_jobs(self, limit: int) -> tuple[int, list[str]]:
        """Delete at most `limit` jobs older than their tenant keeps jobs.

        Returns how many, and the object keys of their images.
        """
        with self._engine.begin() as connection:
            (row,) = _run(connection, statements.AGED_JOBS, limit=limit)
        return row["jobs"], row["keys"]

    def _move(self, sql: str, event: str | None, **values: Any) -> list[Row]:
        with self._engine.begin() as connection:
            rows = _run(connection, sql, **values)
            notices = []
            for row in rows:
                name = event or _rescue_event(row)
                notices += [*outbox.announce(connection, [row], name), moved(row["id"], name)]
        self._notices.send(notices)
        return rows


def _rescue_event(row: Row) -> str:
    return "failed" if row["status"] == "failed" else "rescued"


def _new_job(job: NewJob) -> dict[str, Any]:
    return {
        "id": str(job.id),
        "tenant_id": str(job.tenant_id),
        "idempotency_key": job.idempotency_key,
        "request_hash": job.request_hash.hex(),
        "request": dict(job.request),
        "trace": job.trace,
        "cache_key": job.cache_key.hex() if job.cache_key else None,
    }


def _may_run(connection: Connection, row: Row) -> bool:
    """Whether the tenant's `max_running` allows the job, which is claimed in this transaction.

    The claims of a tenant with a limit run one after another, so that each counts the one before.
    Claims of other tenants do not wait.
    """
    if row["max_running"] is None:
        return True
    values = {"tenant": row["tenant_id"], "most": row["max_running"]}
    _run(connection, "SELECT 1 FROM tenants WHERE id = :tenant FOR NO KEY UPDATE", **values)
    running = "SELECT count(*) FROM jobs WHERE tenant_id = :tenant AND status = 'running'"
    return bool(_run(connection, running, **values)[0]["count"] <= row["max_running"])


def _answer_from_cache(connection: Connection, job: NewJob) -> Row | None:
    """Queued -> succeeded with an earlier job's images; none if no job has the same cache key."""
    images = _run(connection, statements.EARLIER_IMAGES, id=job.id)
    if len(images) != job.request["num_images"]:
        return None
    source = str(images[0]["job_id"])
    (row,) = _run(connection, statements.ANSWER, id=job.id, source=source)
    values = json.dumps([{k: v for k, v in i.items() if k != "job_id"} for i in images])
    connection.execute(text(statements.IMAGES), {"id": job.id, "images": values})
    return row


def _run(connection: Connection, sql: str, **values: Any) -> list[Row]:
    return [dict(row) for row in connection.execute(text(sql), values).mappings()]
