"""A refused message's second chance: through the same checks, as the same job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app import trace
from app.errors import Refused
from app.intake.sorting import submission
from app.jobs.accept import accept

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from app.intake.rejects import Rejects
    from app.jobs.accept import AcceptContext
    from app.tenants.tenants import Tenant


class Incomplete(Refused):
    """The message was larger than what is kept of one: its whole body must be given."""

    code = "incomplete"


def replay(
    rejects: Rejects,
    door: AcceptContext,
    tenant: Tenant,
    row: Mapping[str, Any],
    body: bytes | None = None,
) -> UUID:
    """Submit a refused message again, mended as `body` or as it was; the job's id.

    A message without an id of its own keeps the name it had, so a second replay makes no second
    job, and neither does a second delivery of the message. Raises `Refused` if it still is.
    """
    if body is None:
        if len(row["body"]) < row["body_bytes"]:
            raise Incomplete(f"only {len(row['body'])} of its {row['body_bytes']} bytes are kept")
        body = bytes(row["body"])
    attributes = {trace.NAME: row["trace"]} if row["trace"] else {}
    asked = submission(row["source"], row["message_id"], body, attributes)
    (stored,) = accept(door, tenant, [asked])
    job_id: UUID = stored.row["id"]
    rejects.note_replay(row["id"], job_id)
    return job_id
