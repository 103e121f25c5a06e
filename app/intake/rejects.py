"""Rejects (poison messages): the record of each message that became no job, and its replay."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text

from app.database import autocommit
from app.errors import NotFound
from app.ids import new_id
from app.jobs.request import LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from app.jobs.records import Row

MAX_ID_CHARS = 255

_RECORD = text("""
INSERT INTO rejects (id, tenant_id, source, message_id, code, detail, body_sha256, body_bytes, body,
                     trace)
VALUES (:id, :tenant_id, :source, :message_id, :code, :detail, :body_sha256, :body_bytes, :body,
        :trace)
ON CONFLICT (source, message_id, body_sha256) DO NOTHING
""")

_LIST = """
SELECT rejects.*, tenants.name AS tenant FROM rejects JOIN tenants ON tenants.id = tenant_id
WHERE (CAST(:id AS uuid) IS NULL OR rejects.id = :id)
  AND (CAST(:code AS text) IS NULL OR code = :code)
  AND (CAST(:source AS text) IS NULL OR source = :source)
  AND (NOT :open OR replayed_at IS NULL)
ORDER BY rejects.id DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class NewReject:
    """A rejected message: whose, from where, why, and its content."""

    tenant_id: UUID
    source: str
    message_id: str
    code: str
    detail: str
    body: bytes
    trace: str | None = None


class Rejects:
    """The table of rejected messages. Safe from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def record(self, refused: Sequence[NewReject]) -> None:
        """Record them, all or none. A message that was recorded before is not recorded again."""
        if not refused:
            return
        with self._engine.begin() as connection:
            connection.execute(_RECORD, [_values(each) for each in refused])

    def page(
        self,
        *,
        code: str | None = None,
        source: str | None = None,
        unmended: bool = False,
        limit: int = 50,
    ) -> list[Row]:
        """Return up to `limit` rejects, newest first; `unmended`: those without a replay."""
        return self._rows(id=None, code=code, source=source, open=unmended, limit=limit)

    def find(self, reject_id: UUID) -> Row:
        """Return one reject. Raises `NotFound`."""
        found = self._rows(id=reject_id, code=None, source=None, open=False, limit=1)
        if not found:
            raise NotFound(f"there is no reject {reject_id}")
        return found[0]

    def note_replay(self, reject_id: UUID, job_id: UUID) -> None:
        """Record that the message has become a job after all."""
        statement = text("""UPDATE rejects SET replayed_at = now(), job_id = :job_id
                            WHERE id = :id AND replayed_at IS NULL""")
        with self._engine.begin() as connection:
            connection.execute(statement, {"id": reject_id, "job_id": job_id})

    def _rows(self, **values: Any) -> list[Row]:
        with autocommit(self._engine).connect() as connection:
            return [dict(row) for row in connection.execute(text(_LIST), values).mappings()]


def name_of(message_id: str) -> str:
    """Shorten a message's id for the table: a service may use any length and any character."""
    if len(message_id) <= MAX_ID_CHARS and message_id.isprintable():
        return message_id
    return hashlib.sha256(message_id.encode(errors="replace")).hexdigest()


def _values(refused: NewReject) -> dict[str, Any]:
    return {
        "id": new_id(),
        "tenant_id": refused.tenant_id,
        "source": refused.source,
        "message_id": name_of(refused.message_id),
        "code": refused.code,
        "detail": refused.detail,
        "body_sha256": hashlib.sha256(refused.body).digest(),
        "body_bytes": len(refused.body),
        "body": refused.body[:LIMIT_BYTES],
        "trace": refused.trace,
    }
