"""The only code that changes a job: it runs the guarded statements of `statements`.

A guard that does not hold changes nothing and the statement answers with no row: that is an answer,
not an error. What a job's webhook asks to hear of is written to the outbox in the same transaction.
Who waits is told after the commit, never in it (see `Notices`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text

from app.database import autocommit
from app.errors import IdempotencyConflict
from app.jobs import outbox, statements
from app.jobs.records import Claim, Costs, Failure, NewImage, NewJob, Row, Stored
from app.jobs.states import retry_delay_s
from app.notify import Notices, moved
from app.tenants import limits
from app.tenants.limits import Quota, over_queued

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from app.tenants.tenants import Tenant


class Store:
    """Moves jobs from state to state. Safe from any thread; holds nothing but the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._notices = Notices(engine)
        self._quota = Quota()

    def insert(self, new: Sequence[NewJob], max_queued: int) -> list[Stored]:
        """Store one tenant's submissions, all or none; each answers with its row, new or old.

        Raises `IdempotencyConflict` where a key was used before with another body, and `OverQuota`
        if more than `max_queued` jobs of the tenant would wait.
        """
        tenant = new[0].tenant_id
        if self._quota.full(tenant):
            return self._repeats(new, max_queued)
        values = json.dumps([_new_job(job) for job in new])
        with self._engine.begin() as connection:
            counted = self._quota.enter(connection, tenant, max_queued, len(new))
            made = {row["id"]: row for row in _run(connection, statements.INSERT, jobs=values)}
            if made and counted:
                self._quota.check(connection, tenant, max_queued)
            told = outbox.announce(connection, made.values(), "queued")
            told += [moved(job_id, "queued") for job_id in made]
            first = {job.id: job for job in reversed(new) if job.id in made}
            for job in first.values():
                if job.reuse and (answered := _answer(connection, job)):
                    made[job.id] = answered
                    told += outbox.announce(connection, [answered], "succeeded")
                    told.append(moved(job.id, "succeeded"))
            repeats = [job for job in new if first.get(job.id) is not job]
            old = _same_jobs(connection, repeats) if repeats else {}
        self._notices.send(told)
        return [
            Stored(made[job.id], created=True)
            if first.get(job.id) is job
            else Stored(old[job.idempotency_key], created=False)
            for job in new
        ]

    def _repeats(self, new: Sequence[NewJob], max_queued: int) -> list[Stored]:
        """The jobs that were stored before under these keys; `OverQuota` if some were not."""
        with autocommit(self._engine).connect() as connection:
            rows = _by_key(connection, new)
            if any(job.idempotency_key not in rows for job in new):
                raise over_queued(max_queued)
            old = _same_jobs(connection, new)
        return [Stored(old[job.idempotency_key], created=False) for job in new]

    def holds(self, tenant_id: UUID, key: str) -> bool:
        """Whether the tenant has a job under this idempotency key."""
        with autocommit(self._engine).connect() as connection:
            wanted = {"tenant": tenant_id, "key": key}
            query = "SELECT FROM jobs WHERE tenant_id = :tenant AND idempotency_key = :key"
            return connection.execute(text(query), wanted).one_or_none() is not None

    def check_day(self, tenant: Tenant) -> None:
        """Raise `OverQuota` if the tenant has used up today's GPU-seconds."""
        limits.check_day(self._engine, tenant)

    def claim(
        self, job_id: UUID, worker_id: str, lease_s: float, *, exclusive: bool | None = None
    ) -> Claim | None:
        """Queued -> running, for this worker; none if another has it or it is not due.

        A job whose worker was lost must run alone: `alone` says which of the two kinds may be
        claimed, suspects or all others; None, either.
        """
        with self._engine.begin() as connection:
            values = {"id": job_id, "worker": worker_id, "lease_s": lease_s, "exclusive": exclusive}
            rows = _run(connection, statements.CLAIM, **values)
            if not rows:
                return None
            if not _may_run(connection, rows[0]):
                connection.rollback()
                return None
            told = outbox.announce(connection, rows, "running")
        self._notices.send([*told, moved(job_id, "running")])
        (r,) = rows
        return Claim(
            r["id"],
            r["tenant_id"],
            r["attempt"],
            r["request"],
            exclusive=r["crashes"] > 0,
            checkpoint=r["checkpoint"],
        )

    def is_suspect(self, job_id: UUID) -> bool:
        """Whether the job waits and must run alone, because a worker was lost over it."""
        query = "SELECT id FROM jobs WHERE id = :id AND status = 'queued' AND crashes > 0"
        with autocommit(self._engine).connect() as connection:
            return bool(_run(connection, query, id=job_id))

    def renew(self, held: Mapping[tuple[UUID, int], int], lease_s: float) -> set[tuple[UUID, int]]:
        """Lengthen the leases of `(id, attempt) -> step`, or end them with 0 s; those still held."""
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
        costs: Costs,
        cache_key: bytes | None = None,
    ) -> bool:
        """Running -> succeeded with its images; false if the attempt is no longer this one.

        `cache_key` is of the weights that drew them; without it the one of the submission stays.
        """
        values = asdict(costs) | {"cache_key": cache_key.hex() if cache_key else None}
        with self._engine.begin() as connection:
            rows = _run(connection, statements.SUCCEED, id=job_id, attempt=attempt, **values)
            if rows:
                made = json.dumps([asdict(image) for image in images])
                connection.execute(text(statements.IMAGES), {"id": job_id, "images": made})
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
            if self._move(statements.RETRY, "retried", error=error, delays=delays, **guard):
                return "retried"
        moved = self._move(
            statements.FAIL, "failed", error=error, transient=failure.transient, **guard
        )
        return "failed" if moved else None

    def release(
        self, job_id: UUID, attempt: int, delay_s: float = 0.0, checkpoint: str | None = None
    ) -> bool:
        """Running -> queued at no cost to the job, due after `delay_s`.

        `checkpoint` is the key of an object to go on from; without a new one, an old one stays.
        False if the attempt is no longer this one.
        """
        values = {"id": job_id, "attempt": attempt, "delay_s": delay_s, "checkpoint": checkpoint}
        return bool(self._move(statements.RELEASE, "released", **values))

    def cancel(self, job_id: UUID, tenant_id: UUID) -> bool:
        """Queued or running -> cancelled; false if it has ended or is another tenant's."""
        return bool(self._move(statements.CANCEL, "cancelled", id=job_id, tenant_id=tenant_id))

    def rescue(self, max_crashes: int, limit: int = 100) -> list[UUID]:
        """Take jobs back whose lease ran out; those whose budget is spent fail. Their ids."""
        rows = self._move(statements.RESCUE, None, max_crashes=max_crashes, limit=limit)
        return [row["id"] for row in rows]

    def expire(self, limit: int = 100) -> list[UUID]:
        """End jobs whose deadline has passed, waiting or running. Their ids."""
        return [row["id"] for row in self._move(statements.EXPIRE, "expired", limit=limit)]

    def hint(self, ids: Sequence[UUID]) -> list[Row]:
        """Note that the workers are being told of these jobs; the rows still queued, in order."""
        place = {job_id: n for n, job_id in enumerate(ids)}
        with self._engine.begin() as connection:
            rows = _run(connection, statements.HINT, ids=list(ids))
        return sorted(rows, key=lambda row: place[row["id"]])

    def age_images(self, limit: int) -> list[str]:
        """Let go of images that their tenant keeps no longer; the keys that they had."""
        with self._engine.begin() as connection:
            return [row["key"] for row in _run(connection, statements.AGED_IMAGES, limit=limit)]

    def age_jobs(self, limit: int) -> tuple[int, list[str]]:
        """Let go of jobs that their tenant keeps no longer; how many, and their images' keys."""
        with self._engine.begin() as connection:
            (row,) = _run(connection, statements.AGED_JOBS, limit=limit)
        return row["jobs"], row["keys"]

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
        "cache_key": job.cache_key.hex() if job.cache_key else None,
    }


def _may_run(connection: Connection, row: Row) -> bool:
    """Whether the tenant may have one job more at work: the row, which is claimed already.

    Only tenants with a limit pay for it: they claim one after another, each seeing the last one.
    """
    if row["max_running"] is None:
        return True
    values = {"tenant": row["tenant_id"], "most": row["max_running"]}
    _run(connection, "SELECT 1 FROM tenants WHERE id = :tenant FOR NO KEY UPDATE", **values)
    running = "SELECT count(*) FROM jobs WHERE tenant_id = :tenant AND status = 'running'"
    return bool(_run(connection, running, **values)[0]["count"] <= row["max_running"])


def _answer(connection: Connection, job: NewJob) -> Row | None:
    """Queued -> succeeded with an earlier job's images; none if no job drew the same before."""
    images = _run(connection, statements.EARLIER_IMAGES, id=job.id)
    if len(images) != job.request["num_images"]:
        return None
    source = str(images[0]["job_id"])
    (row,) = _run(connection, statements.ANSWER, id=job.id, source=source)
    values = json.dumps([{k: v for k, v in i.items() if k != "job_id"} for i in images])
    connection.execute(text(statements.IMAGES), {"id": job.id, "images": values})
    return row


def _same_jobs(connection: Connection, repeats: Sequence[NewJob]) -> dict[str, Row]:
    """The jobs that were stored before under these keys; raises `IdempotencyConflict`."""
    old = _by_key(connection, repeats)
    for job in repeats:
        _check_same(job, old.get(job.idempotency_key))
    return old


def _by_key(connection: Connection, jobs: Sequence[NewJob]) -> dict[str, Row]:
    rows = _run(
        connection,
        """SELECT jobs.* FROM jobs JOIN unnest(CAST(:tenants AS uuid[]), CAST(:keys AS text[]))
           AS wanted(tenant, key) ON tenant_id = tenant AND idempotency_key = key""",
        tenants=[job.tenant_id for job in jobs],
        keys=[job.idempotency_key for job in jobs],
    )
    return {row["idempotency_key"]: row for row in rows}


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
