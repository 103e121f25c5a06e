"""Replay of a rejected message: through the same checks, as the same job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app import trace
from app.errors import Refused
from app.intake.triage import submission
from app.jobs.accept import accept

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from app.intake.rejects import Rejects
    from app.jobs.accept import AcceptContext
    from app.tenants.tenants import Tenant


class Incomplete(Refused):
    """The stored body is incomplete because the message was too large: give its whole body."""

    code = "incomplete"


def replay(
    rejects: Rejects,
    context: AcceptContext,
    tenant: Tenant,
    row: Mapping[str, Any],
    body: bytes | None = None,
) -> UUID:
    """Submit a rejected message again, as `body` or unchanged. Return the job's id.

    A message without its own id keeps the name it had. So a second replay, or a second delivery of
    the message, makes no second job. Raises `Refused` if it is still bad.
    """
    if body is None:
        if len(row["body"]) < row["body_bytes"]:
            raise Incomplete(f"only {len(row['body'])} of its {row['body_bytes']} bytes are kept")
        body = bytes(row["body"])
    attributes = {trace.NAME: row["trace"]} if row["trace"] else {}
    asked = submission(row["source"], row["message_id"], body, attributes)
    (stored,) = accept(context, tenant, [asked])
    job_id: UUID = stored.row["id"]
    rejects.note_replay(row["id"], job_id)
    return job_id
