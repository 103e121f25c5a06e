"""What the routes work with, built once per process, and the tenant of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from app.errors import NotFound, TooLarge, Unauthorized
from app.jobs import present
from app.jobs.request import LIMIT_BYTES
from app.tenants import keys, limits
from app.tenants.tenants import Tenant

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.api.hub import Hub
    from app.api.previews import Previews
    from app.catalog.entries import Catalog
    from app.config.settings import Settings
    from app.jobs.accept import AcceptContext
    from app.jobs.queries import Queries
    from app.jobs.records import Row
    from app.jobs.store import Store
    from app.storage.objects import Storage


@dataclass(frozen=True, slots=True)
class Context:
    """The composed parts of one API process."""

    settings: Settings
    engine: Engine
    store: Store
    queries: Queries
    catalog: Catalog
    door: AcceptContext
    storage: Storage
    hub: Hub
    previews: Previews

    def job_json(
        self, row: Row, images: list[Row], *, ahead: bool, lasts_s: int | None = None
    ) -> dict[str, Any]:
        """Return the public form of a job, with URLs signed now.

        `ahead` adds its place in the queue.
        """
        position = self.queries.position(row) if ahead else None
        return present.job(row, images, lambda key: self.storage.url(key, lasts_s), position)

    def jobs(self, rows: list[Row], lasts_s: int | None = None) -> list[dict[str, Any]]:
        """Return the public form of jobs with their images, in order.

        URLs are valid for `lasts_s`.
        """
        drawn = [row["id"] for row in rows if row["status"] == "succeeded"]
        images = self.queries.images(drawn)
        return [
            self.job_json(row, images.get(row["id"], []), ahead=False, lasts_s=lasts_s)
            for row in rows
        ]

    def job(self, tenant: Tenant, job_id: UUID) -> dict[str, Any]:
        """Return the tenant's job. Raises `NotFound`, also for another tenant's job."""
        found = self.queries.job(tenant.id, job_id)
        if found is None:
            raise NotFound(f"there is no job {job_id}")
        return self.job_json(*found, ahead=True, lasts_s=tenant.url_expiry_s)


def context(request: Request) -> Context:
    """Return the context of the application that received the request."""
    found: Context = request.app.state.context
    return found


async def tenant(request: Request) -> Tenant:
    """Return the tenant of the bearer key. Raises `Unauthorized`."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized("send the header `Authorization: Bearer rf_...`")
    return await run_in_threadpool(_admit, context(request).engine, key.strip())


def _admit(engine: Engine, key: str) -> Tenant:
    """Return the key's tenant, and count this request in its rate limit. Raises `OverQuota`."""
    found = keys.find_by_key(engine, key)
    if found is None:
        raise Unauthorized("the key is not valid")
    limits.spend_request(engine, found)
    return found


async def body(request: Request, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Read the request's body, at most up to the limit. Raises `TooLarge`."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit_bytes:
            raise TooLarge(f"the body has more than {limit_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def as_id(text: str) -> UUID:
    """Return a job id from a path. Raises `NotFound` if it is not a UUID."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"there is no job {text[:64]!r}") from None


Ctx = Annotated[Context, Depends(context)]
Who = Annotated[Tenant, Depends(tenant)]
