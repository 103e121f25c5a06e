"""accept: the one function behind both doors, HTTP and queues.

It checks, deduplicates and stores. A message or request may be acknowledged once it has returned:
the job is committed.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import FieldError, InvalidRequest
from app.ids import new_id
from app.jobs.cache import key_of, repeatable
from app.jobs.records import NewJob
from app.jobs.request import JobRequest, QueueMessage, complete, digest
from app.outbound.client import ForbiddenUrl, check_url
from app.storage import uploads

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from app.catalog.entries import Catalog
    from app.jobs.records import Stored
    from app.jobs.store import Store
    from app.tenants.tenants import Tenant

MAX_KEY_CHARS = 255
PICTURES = ("image", "mask", "control_image")


@dataclass(frozen=True, slots=True)
class AcceptContext:
    """What accepting needs: the records, the catalog, and whether webhooks may go to private hosts.

    A request that names no model gets the catalog's default, one that names no priority, `priority`.
    An upload may be named for `keep_uploads_s` after its place was made.
    """

    store: Store
    catalog: Catalog
    webhook_allow_private: bool = False
    priority: int = 0
    keep_uploads_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Submission:
    """A request with its idempotency key and the W3C traceparent it came with, if it has them."""

    request: JobRequest
    key: str | None = None
    trace: str | None = None


def accept(
    door: AcceptContext,
    tenant: Tenant,
    submissions: Sequence[Submission],
    *,
    within: str = "",
) -> list[Stored]:
    """Store submissions of one tenant, all or none; each answers with its job, new or old.

    `within` is what a caller calls the list, in which a refusal then names the place. Raises
    `InvalidRequest`, `IdempotencyConflict` (same key, other body) or `OverQuota`; then nothing is
    stored. A repeat of what was accepted before counts towards no quota.
    """
    new = []
    for n, submission in enumerate(submissions):
        try:
            new.append(check(door, tenant, submission))
        except InvalidRequest as error:
            raise (error.within(f"{within}.{n}") if within else error) from None
    door.store.check_day(tenant)
    return door.store.insert(new, tenant.max_queued)


def check(door: AcceptContext, tenant: Tenant, submission: Submission) -> NewJob:
    """What the records are to hold for a submission; raises `InvalidRequest`. Stores nothing."""
    request, key = submission.request, submission.key
    if key is not None and not 0 < len(key) <= MAX_KEY_CHARS:
        raise InvalidRequest(
            "bad Idempotency-Key",
            (FieldError("Idempotency-Key", f"must have 1 to {MAX_KEY_CHARS} characters"),),
        )
    if request.webhook:
        _check_url("webhook.url", request.webhook.url, door)
    own_id = request.id if isinstance(request, QueueMessage) else None
    job_id: UUID = own_id or new_id()
    for name in PICTURES:
        where = getattr(request, name) or ""
        _check_picture(name, where, door)
        # A repeat is answered for as long as its job is kept, whatever became of the upload.
        if _too_old(where, door) and not door.store.holds(tenant.id, key or str(job_id)):
            message = "names an upload that is kept no longer: upload the picture again"
            raise InvalidRequest(f"{name} {message}", (FieldError(name, message),))
    full = complete(request, door.catalog, door.priority)
    shared = tenant.cache and request.cache and repeatable(full)
    revision = door.catalog.models[full["model"]].revision
    return NewJob(
        id=job_id,
        tenant_id=tenant.id,
        idempotency_key=key or str(job_id),
        request_hash=digest(request),
        request=full,
        trace=submission.trace,
        cache_key=key_of(full, revision) if shared else None,
        reuse=shared and request.seed is not None,
    )


def _check_picture(field: str, where: str, door: AcceptContext) -> None:
    if where.startswith(("http://", "https://")):
        _check_url(field, where, door)


def _too_old(where: str, door: AcceptContext) -> bool:
    return uploads.is_name(where) and uploads.made_at(where) + door.keep_uploads_s < time.time()


def _check_url(field: str, url: str, door: AcceptContext) -> None:
    try:
        check_url(url, allow_private=door.webhook_allow_private)
    except ForbiddenUrl as error:
        raise InvalidRequest(f"{field} {error}", (FieldError(field, str(error)),)) from error
