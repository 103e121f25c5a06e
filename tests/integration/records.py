"""A farm's database for tests, with two tenants and shortcuts that bring a job into a state."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text

from app.ids import new_id
from app.jobs.audit import audit
from app.jobs.cache import key_of
from app.jobs.records import AttemptCosts, Claim, Failure, NewImage, NewJob
from app.jobs.store import Store
from app.tenants import tenants

if TYPE_CHECKING:
    from uuid import UUID

    from app.jobs.records import Row, Stored
    from app.tenants.tenants import Tenant

LEASE_S = 30.0
COSTS = AttemptCosts(render_s=0.5, store_s=0.1, gpu_seconds=0.25, cost_usd=0.01)
BUG = Failure("bad_image", "not a picture")
HICCUP = Failure("storage_unavailable", "try later", transient=True)
MAX = 3
"""Failures, and crashes, that a job may have."""
EMPTY = """DELETE FROM outbox; DELETE FROM jobs; DELETE FROM keys; DELETE FROM usage;
           DELETE FROM usage_entries; DELETE FROM tenants"""
HASH = bytes(range(32))
REQUEST: dict[str, Any] = {
    "prompt": "a red circle", "model": "null", "negative_prompt": "", "width": 64, "height": 64,
    "num_inference_steps": 10, "guidance_scale": 5.0, "num_images": 1, "seed": 7,
    "scheduler": "euler", "image": None, "mask": None, "strength": None, "output_format": "png",
    "priority": 0, "deadline_s": 600, "metadata": {}, "webhook": None,
}  # fmt: skip


class FarmDatabase:
    """A farm's database, with shortcuts that bring a job into the state that a test needs."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.store = Store(engine)

    @cached_property
    def tenant(self) -> Tenant:
        """The tenant that owns the jobs."""
        return tenants.ensure_tenant(self.engine, "ann")

    @cached_property
    def other(self) -> Tenant:
        """Another tenant."""
        return tenants.ensure_tenant(self.engine, "ben")

    def reset(self, *, workers: bool = True) -> None:
        """Empty every table, except that of the workers if `workers` is false."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(EMPTY)
            if workers:
                connection.exec_driver_sql("DELETE FROM workers")

    def execute(self, statement: str, **values: Any) -> None:
        """Run and commit a statement."""
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def forge(self, statement: str, **values: Any) -> None:
        """Run a statement with all triggers off, to write a state that the program cannot reach."""
        with self.engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text(statement), values)

    def rows(self, query: str, **values: Any) -> list[Row]:
        """The rows of a query."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(query), values).mappings()]

    def job(self, job_id: UUID) -> Row:
        """A job's row."""
        return self.rows("SELECT * FROM jobs WHERE id = :id", id=job_id)[0]

    def state(self, job_id: UUID) -> tuple[str, int]:
        """A job's status and attempt."""
        row = self.job(job_id)
        return row["status"], row["attempt"]

    def events(self, job_id: UUID) -> list[str]:
        """The types of a job's events, in order."""
        query = "SELECT type FROM events WHERE job_id = :id ORDER BY id"
        return [row["type"] for row in self.rows(query, id=job_id)]

    def deliveries(self, job_id: UUID) -> list[str]:
        """The types of a job's outbox rows, in order."""
        query = "SELECT type FROM outbox WHERE job_id = :id ORDER BY created_at, id"
        return [row["type"] for row in self.rows(query, id=job_id)]

    def new(self, key: str | None = None, tenant: Tenant | None = None, **request: Any) -> NewJob:
        """A submission that passed every check."""
        job_id = new_id()
        owner = (tenant or self.tenant).id
        return NewJob(job_id, owner, key or str(job_id), HASH, REQUEST | request)

    def insert(self, *new: NewJob, max_queued: int = 1000) -> list[Stored]:
        """Store submissions in one batch."""
        return self.store.insert(new, max_queued)

    def queued(self, **request: Any) -> UUID:
        """A queued job."""
        return _id_of(*self.insert(self.new(**request)))

    def shared(self, tenant: Tenant | None = None, **request: Any) -> UUID:
        """A job that the result cache may answer, and whose images may answer later jobs."""
        full = REQUEST | request
        new = replace(self.new(None, tenant, **request), cache_key=key_of(full, "1"), reuse=True)
        return _id_of(*self.insert(new))

    def claimed(self, job_id: UUID | None = None, **request: Any) -> Claim:
        """A running job that worker `w` holds."""
        claim = self.store.claim(job_id or self.queued(**request), "w", LEASE_S)
        assert claim is not None
        return claim

    def finish(self, claim: Claim) -> bool:
        """Report success, with as many images as the request asks for."""
        count = claim.request["num_images"]
        return self.store.succeed(claim.id, claim.attempt, images(claim, count), COSTS)

    def lose(self, job_id: UUID) -> None:
        """Let the job's lease run out."""
        self.execute("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE id = :i", i=job_id)

    def outdate(self, job_id: UUID) -> None:
        """Let the job's deadline pass."""
        self.execute("UPDATE jobs SET deadline_at = now() - interval '1 s' WHERE id = :i", i=job_id)

    def breaches(self) -> list[str]:
        """The violated invariants."""
        return [breach.invariant for breach in audit(self.engine)]


def images(claim: Claim, count: int = 1) -> list[NewImage]:
    """The images of an attempt as a worker reports them."""
    folder = f"{claim.tenant_id}/{claim.id}/{claim.attempt}"
    return [
        NewImage(n, f"{folder}/{n}.png", 64, 64, "image/png", 9, "ab" * 32, 7 + n)
        for n in range(count)
    ]


def _id_of(stored: Stored) -> UUID:
    job_id: UUID = stored.row["id"]
    return job_id
