"""The delivery log: what was sent, what the endpoint answered, and replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text

from app.errors import NotFound
from app.notify import Notices

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from app.jobs.records import Row

MAX_REPLAYS = 10_000
_LIST = """
SELECT id, job_id, endpoint_id, type, url, state, tries, next_try_at, last_status, last_error,
       created_at, delivered_at
FROM outbox WHERE tenant_id = :tenant_id
  AND (CAST(:job_id AS uuid) IS NULL OR job_id = :job_id)
  AND (CAST(:endpoint_id AS uuid) IS NULL OR endpoint_id = :endpoint_id)
  AND (CAST(:state AS text) IS NULL OR state = :state)
  AND (CAST(:before AS uuid) IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit
"""

# A disabled endpoint receives nothing, and a removed one has no URL any more.
_REPLAY = """
UPDATE outbox AS o SET state = 'pending', tries = 0, next_try_at = now(), delivered_at = NULL,
                       url = coalesce(e.url, o.url)
FROM outbox AS same LEFT JOIN endpoints AS e ON e.id = same.endpoint_id
WHERE o.id = same.id AND o.tenant_id = :tenant_id AND coalesce(e.state, 'enabled') = 'enabled'
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter for deliveries: of a job, of an endpoint, in a state. None: any."""

    job_id: UUID | None = None
    endpoint_id: UUID | None = None
    state: str | None = None


class History:
    """Reads and replays deliveries. Safe from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._notices = Notices(engine)

    def page(
        self, tenant_id: UUID, which: Filter, *, before: UUID | None = None, limit: int = 50
    ) -> list[Row]:
        """Return up to `limit` deliveries of a tenant, newest first, older than the id `before`."""
        return self._rows(
            _LIST,
            tenant_id=tenant_id,
            job_id=which.job_id,
            endpoint_id=which.endpoint_id,
            state=which.state,
            before=before,
            limit=limit,
        )

    def find(self, tenant_id: UUID, delivery_id: UUID) -> tuple[Row, list[Row]]:
        """Return a delivery with its payload and each of its tries. Raises `NotFound`."""
        rows = self._rows(
            "SELECT * FROM outbox WHERE id = :id AND tenant_id = :tenant_id",
            id=delivery_id,
            tenant_id=tenant_id,
        )
        if not rows:
            raise NotFound(f"there is no delivery {delivery_id}")
        tries = "SELECT * FROM tries WHERE delivery_id = :id ORDER BY id"
        return rows[0], self._rows(tries, id=delivery_id)

    def replay(self, tenant_id: UUID, delivery_id: UUID) -> bool:
        """Deliver again, starting with the first try. Return False if its endpoint is disabled.

        The message keeps its id, so that a receiver can recognize it. Raises `NotFound`.
        """
        self.find(tenant_id, delivery_id)
        return bool(self._again("AND o.id = :id", tenant_id, id=delivery_id))

    def replay_since(self, tenant_id: UUID, since: datetime, which: Filter) -> int:
        """Deliver everything since a time again. Return how many.

        Pending deliveries are unchanged.
        """
        return self._again(
            """AND o.id IN (SELECT id FROM outbox
                 WHERE tenant_id = :tenant_id AND created_at >= :since AND state <> 'pending'
                   AND (CAST(:endpoint_id AS uuid) IS NULL OR endpoint_id = :endpoint_id)
                   AND (CAST(:state AS text) IS NULL OR state = :state)
                 ORDER BY created_at LIMIT :most)""",
            tenant_id,
            since=since,
            endpoint_id=which.endpoint_id,
            state=which.state,
            most=MAX_REPLAYS,
        )

    def _again(self, where: str, tenant_id: UUID, **values: Any) -> int:
        with self._engine.begin() as connection:
            done = connection.execute(text(_REPLAY + where), {"tenant_id": tenant_id, **values})
        if done.rowcount:
            self._notices.send([("outbox", "")])
        return int(done.rowcount)

    def _rows(self, sql: str, **values: Any) -> list[Row]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(sql), values).mappings()]


def as_json(row: Row) -> dict[str, Any]:
    """Return a delivery in the API's form."""
    return {
        "id": str(row["id"]),
        "job_id": str(row["job_id"]),
        "endpoint_id": str(row["endpoint_id"]) if row["endpoint_id"] else None,
        **{name: row[name] for name in ("type", "url", "state", "last_status", "last_error")},
        "tries": row["tries"],
        "next_try_at": _time(row["next_try_at"]) if row["state"] == "pending" else None,
        "created_at": _time(row["created_at"]),
        "delivered_at": _time(row["delivered_at"]),
    }


def try_as_json(row: Row) -> dict[str, Any]:
    """Return one try: time, duration, status, error, and the beginning of the answer."""
    names = ("status", "error", "answer", "took_s")
    return {"at": _time(row["at"]), **{name: row[name] for name in names}}


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
