"""`GET /v1/usage`: the tenant's usage, by model and day."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from app.api.context import Ctx, Who
from app.errors import FieldError, InvalidRequest
from app.tenants import usage
from app.tenants.usage import Span, groups_of

router = APIRouter(prefix="/v1", tags=["usage"])
Since = Annotated[date | None, Query(alias="from")]
Until = Annotated[date | None, Query(alias="to")]


@router.get("/usage")
async def show(
    context: Ctx, tenant: Who, since: Since = None, until: Until = None, by: str = "day"
) -> dict[str, Any]:
    """Jobs, images, GPU-seconds and cost from the day `from` up to, and without, the day `to`.

    `by` names the groups, some of tenant, model and day, with commas between them; empty: one sum.
    Days are UTC's.
    """
    groups, span = groups_of(by), Span(since, until)
    if since and until and since >= until:
        message = "must be a day before `to`"
        raise InvalidRequest(f"from {message}", (FieldError("from", message),))

    def work() -> dict[str, Any]:
        rows = usage.report(context.engine, groups, span, tenant.id)
        (total,) = usage.report(context.engine, (), span, tenant.id)
        return {"from": since, "to": until, "by": groups, "rows": rows, "total": total}

    return await run_in_threadpool(work)
