"""Submission (idempotency, validation): the one use case that HTTP and the queues share.

`accept` checks, deduplicates and stores. When it has returned, the jobs are committed, and the
caller may acknowledge the request or message.
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
    """The store, the catalog and the settings that `accept` needs.

    `webhook_allow_private` allows URLs on private networks. A request without a model gets the
    catalog's default model, and a request without a priority gets `priority`. A request may use an
    upload for `keep_uploads_s` after the upload's id was made.
    """

    store: Store
    catalog: Catalog
    webhook_allow_private: bool = False
    priority: int = 0
    keep_uploads_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Submission:
    """A request, with its idempotency key and its W3C traceparent if it came with them."""

    request: JobRequest
    key: str | None = None
    trace: str | None = None


def accept(
    context: AcceptContext,
    tenant: Tenant,
    submissions: Sequence[Submission],
    *,
    within: str = "",
) -> list[Stored]:
    """Store submissions of one tenant, all or none; returns the job of each, new or existing.

    `within` is the caller's name for the list; an error then names the place in it (`jobs.3.seed`).
    Raises `InvalidRequest`, `IdempotencyConflict` (same key, other body) or `OverQuota`, and stores
    nothing then. A repeat of an accepted submission does not count towards `max_queued`.
    """
    new = []
    for n, submission in enumerate(submissions):
        try:
            new.append(check(context, tenant, submission))
        except InvalidRequest as error:
            raise (error.within(f"{within}.{n}") if within else error) from None
    context.store.check_day(tenant)
    return context.store.insert(new, tenant.max_queued)


def check(context: AcceptContext, tenant: Tenant, submission: Submission) -> NewJob:
    """The job that a submission asks for; raises `InvalidRequest`. Stores nothing."""
    request, key = submission.request, submission.key
    if key is not None and not 0 < len(key) <= MAX_KEY_CHARS:
        raise InvalidRequest(
            "bad Idempotency-Key",
            (FieldError("Idempotency-Key", f"must have 1 to {MAX_KEY_CHARS} characters"),),
        )
    if request.webhook:
        _check_url("webhook.url", request.webhook.url, context)
    own_id = request.id if isinstance(request, QueueMessage) else None
    job_id: UUID = own_id or new_id()
    for name in PICTURES:
        source = getattr(request, name) or ""
        _check_picture(name, source, context)
        # A repeat returns its job as long as the job is kept, even if the upload is deleted.
        if _upload_expired(source, context) and not context.store.holds(
            tenant.id, key or str(job_id)
        ):
            message = "names an upload that has expired: upload the picture again"
            raise InvalidRequest(f"{name} {message}", (FieldError(name, message),))
    full = complete(request, context.catalog, context.priority)
    shared = tenant.cache and request.cache and repeatable(full)
    revision = context.catalog.models[full["model"]].revision
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


def _check_picture(field: str, source: str, context: AcceptContext) -> None:
    if source.startswith(("http://", "https://")):
        _check_url(field, source, context)


def _upload_expired(source: str, context: AcceptContext) -> bool:
    return (
        uploads.is_name(source) and uploads.made_at(source) + context.keep_uploads_s < time.time()
    )


def _check_url(field: str, url: str, context: AcceptContext) -> None:
    try:
        check_url(url, allow_private=context.webhook_allow_private)
    except ForbiddenUrl as error:
        raise InvalidRequest(f"{field} {error}", (FieldError(field, str(error)),)) from error
