"""accept: the one function behind both doors, HTTP and queues.

It checks, deduplicates and stores. A message or request may be acknowledged once it has returned:
the job is committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import FieldError, InvalidRequest
from app.jobs.ids import new_id
from app.jobs.records import NewJob
from app.jobs.request import JobRequest, QueueMessage, complete, digest
from app.webhooks.outbound import ForbiddenUrl, check_url

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from app.catalog import Catalog
    from app.jobs.records import Stored
    from app.jobs.store import Store
    from app.jobs.tenants import Tenant

MAX_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class Door:
    """What accepting needs: the records, the catalog, and whether webhooks may go to private hosts."""

    store: Store
    catalog: Catalog
    webhook_allow_private: bool = False


def accept(
    door: Door,
    tenant: Tenant,
    requests: Sequence[tuple[JobRequest, str | None]],
    *,
    within: str = "",
) -> list[Stored]:
    """Store submissions of one tenant, all or none; each answers with its job, new or old.

    Each comes with its idempotency key, if it has one; `within` is what a caller calls the list, in
    which a refusal then names the place. Raises `InvalidRequest`,
    `IdempotencyConflict` (same key, other body) or `OverQuota`; then nothing is stored. A repeat
    of what was accepted before counts towards no quota.
    """
    new = []
    for n, (request, key) in enumerate(requests):
        try:
            new.append(_new_job(door, tenant, request, key))
        except InvalidRequest as error:
            raise (error.within(f"{within}.{n}") if within else error) from None
    return door.store.insert(new, tenant.max_queued)


def _new_job(door: Door, tenant: Tenant, request: JobRequest, key: str | None) -> NewJob:
    if key is not None and not 0 < len(key) <= MAX_KEY_CHARS:
        raise InvalidRequest(
            "bad Idempotency-Key",
            (FieldError("Idempotency-Key", f"must have 1 to {MAX_KEY_CHARS} characters"),),
        )
    if request.webhook:
        try:
            check_url(request.webhook.url, allow_private=door.webhook_allow_private)
        except ForbiddenUrl as error:
            raise InvalidRequest(
                f"webhook.url {error}", (FieldError("webhook.url", str(error)),)
            ) from error
    own_id = request.id if isinstance(request, QueueMessage) else None
    job_id: UUID = own_id or new_id()
    return NewJob(
        id=job_id,
        tenant_id=tenant.id,
        idempotency_key=key or str(job_id),
        request_hash=digest(request),
        request=complete(request, door.catalog),
    )
