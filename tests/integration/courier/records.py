"""A database with one tenant, one job and its outbox."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, RowMapping, text

from app.ids import new_id

if TYPE_CHECKING:
    from uuid import UUID

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
IMAGE = {
    "width": 8,
    "height": 8,
    "content_type": "image/png",
    "bytes": 1,
    "sha256": "ab",
    "seed": 7,
}


@dataclass(frozen=True, slots=True)
class Records:
    """The database, with one tenant and one job in it."""

    engine: Engine
    url: str
    tenant_id: UUID
    job_id: UUID

    def announce(
        self,
        url: str,
        *,
        secret: str | None = SECRET,
        images: int = 0,
        endpoint_id: UUID | None = None,
    ) -> UUID:
        """Write an outbox row, as the finishing transaction does; gives its id."""
        made = new_id()
        at = "2026-03-01T12:00:00+00:00"
        keys = [{"key": f"t/j/1/{n}.png", **IMAGE} for n in range(images)]
        job = {"id": str(self.job_id), "status": "succeeded", "created_at": at, "images": keys}
        payload = {"type": "job.succeeded", "timestamp": at, "data": job}
        statement = """INSERT INTO outbox
                         (id, job_id, tenant_id, type, url, secret, payload, endpoint_id)
                       VALUES
                         (:id, :job, :tenant, 'job.succeeded', :url, :secret, :payload, :endpoint)"""
        values = {"id": made, "job": self.job_id, "tenant": self.tenant_id, "endpoint": endpoint_id}
        self.execute(statement, **values, url=url, secret=secret, payload=json.dumps(payload))
        return made

    def execute(self, statement: str, **values: Any) -> None:
        """Run and commit a statement."""
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def rows(self, query: str) -> list[RowMapping]:
        """The rows of a query."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(query)).mappings())

    def row(self, delivery: UUID) -> RowMapping:
        """An outbox row as it stands, with the seconds until its next try."""
        query = """SELECT *, extract(epoch FROM next_try_at - now())::float AS wait_s
                   FROM outbox WHERE id = :id"""
        with self.engine.connect() as connection:
            return connection.execute(text(query), {"id": delivery}).mappings().one()

    def states(self) -> dict[str, int]:
        """How many rows are in each state."""
        with self.engine.connect() as connection:
            found = connection.execute(
                text("SELECT state, count(*) AS n FROM outbox GROUP BY state")
            )
            return {row.state: row.n for row in found}

    def make_due(self) -> None:
        """Let the time of every next try come, as if the clock had been put forward."""
        self.execute("UPDATE outbox SET next_try_at = now() WHERE state = 'pending'")
