"""The database, as one reader uses it. Each call is its own transaction, committed on return."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError

from app import trace
from app.database import autocommit
from app.errors import Unstorable
from app.intake.rejects import NewReject, Rejects
from app.intake.triage import Bad, submission
from app.jobs.accept import check
from app.tenants import tenants
from app.tenants.limits import count_queued

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from app.config.sources import Source
    from app.jobs.accept import AcceptContext
    from app.jobs.records import NewJob
    from app.tenants.tenants import Tenant
    from renderfarm.queues import Message


class IntakeDatabase:
    """The database of one source. Safe from any thread."""

    def __init__(self, engine: Engine, context: AcceptContext, source: Source) -> None:
        self._engine = engine
        self._context = context
        self._rejects = Rejects(engine)
        self._source = source

    def room(self) -> tuple[Tenant, int]:
        """Return the source's tenant, and how many more of its jobs may wait. Raises `NotFound`."""
        tenant = tenants.find_by_name(self._engine, self._source.tenant)
        with autocommit(self._engine).connect() as connection:
            queued = count_queued(connection, tenant.id, tenant.max_queued)
        return tenant, tenant.max_queued - queued

    def check(self, tenant: Tenant, message: Message) -> NewJob:
        """Return the job that a message asks for. Raises `Refused`. Uses no database."""
        asked = submission(self._source.name, message.id, message.body, message.attributes)
        return check(self._context, tenant, asked)

    def store(self, tenant: Tenant, jobs: Sequence[NewJob]) -> int:
        """Store jobs, all or none. Return how many are new. Raises `Refused`."""
        try:
            stored = self._context.store.insert(jobs, tenant.max_queued)
        except DataError as error:
            raise Unstorable(str(error.orig)) from error
        return sum(each.created for each in stored)

    def record(self, tenant: Tenant, refused: Sequence[Bad]) -> None:
        """Record rejected messages with their reasons."""
        self._rejects.record(
            [
                NewReject(
                    tenant.id,
                    self._source.name,
                    bad.message.id,
                    bad.code,
                    bad.detail,
                    bad.message.body,
                    trace.read(bad.message.attributes.get(trace.NAME)),
                )
                for bad in refused
            ]
        )
