"""Idempotency: the existing jobs of repeated submissions, by their idempotency keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from app.errors import IdempotencyConflict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.jobs.records import NewJob, Row

_BY_KEY = text("""
SELECT jobs.* FROM jobs JOIN unnest(CAST(:tenants AS uuid[]), CAST(:keys AS text[]))
AS wanted(tenant, key) ON tenant_id = tenant AND idempotency_key = key
""")


def existing(connection: Connection, repeats: Sequence[NewJob]) -> dict[str, Row]:
    """The existing jobs of these keys; raises `IdempotencyConflict` if a body differs."""
    rows = by_key(connection, repeats)
    for job in repeats:
        _check_same_body(job, rows.get(job.idempotency_key))
    return rows


def by_key(connection: Connection, jobs: Sequence[NewJob]) -> dict[str, Row]:
    """The existing jobs among these keys, by key."""
    values = {
        "tenants": [job.tenant_id for job in jobs],
        "keys": [job.idempotency_key for job in jobs],
    }
    rows = connection.execute(_BY_KEY, values).mappings()
    return {row["idempotency_key"]: dict(row) for row in rows}


def _check_same_body(job: NewJob, row: Row | None) -> None:
    if row is None:  # another tenant has a job with this id, of which the message must say nothing
        raise IdempotencyConflict(f"the id {job.id} is in use")
    before = bytes(row["request_hash"])
    if before != job.request_hash:
        raise IdempotencyConflict(
            f"the key {job.idempotency_key!r} was used with another body: "
            f"the earlier body's hash is {before.hex()}, this body's is {job.request_hash.hex()}"
        )
