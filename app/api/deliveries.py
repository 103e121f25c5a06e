"""`/v1/deliveries`: the log of webhooks, and their replay."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app.api.context import Ctx, Who, body
from app.errors import FieldError, InvalidJson, InvalidRequest, NotFound, Refused
from app.webhooks.history import Filter, History, as_json, try_as_json

router = APIRouter(prefix="/v1", tags=["webhooks"])
MAX_PAGE = 200
STATES = ("pending", "delivered", "dead")
State = Literal["pending", "delivered", "dead"]


class EndpointDisabled(Refused):
    """The endpoint is disabled or removed: nothing can be sent there."""

    status = 409
    code = "endpoint_disabled"


@router.get("/deliveries")
async def page(  # noqa: PLR0917 - FastAPI gives them by name
    context: Ctx,
    tenant: Who,
    job: UUID | None = None,
    endpoint: UUID | None = None,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: UUID | None = None,
) -> dict[str, Any]:
    """List the tenant's deliveries, newest first; `cursor` of one answer gives the next page."""
    which = Filter(job, endpoint, state)
    rows = await run_in_threadpool(
        History(context.engine).page, tenant.id, which, before=cursor, limit=limit
    )
    found = [as_json(row) for row in rows]
    return {"deliveries": found, "cursor": found[-1]["id"] if len(found) == limit else None}


@router.get("/deliveries/{delivery_id}")
async def show(delivery_id: str, context: Ctx, tenant: Who) -> dict[str, Any]:
    """Show one delivery: its tries, and its payload with object keys in place of URLs."""
    found = _as_id(delivery_id)
    row, tries = await run_in_threadpool(History(context.engine).find, tenant.id, found)
    log = [try_as_json(each) for each in tries]
    return as_json(row) | {"payload": row["payload"], "log": log}


@router.post("/deliveries/{delivery_id}/replay", status_code=202)
async def replay(delivery_id: str, context: Ctx, tenant: Who) -> dict[str, Any]:
    """Deliver again, with the same `webhook-id`, starting with the first try."""
    history, found = History(context.engine), _as_id(delivery_id)
    if not await run_in_threadpool(history.replay, tenant.id, found):
        raise EndpointDisabled("its endpoint is disabled or removed; enable it first")
    row, _ = await run_in_threadpool(history.find, tenant.id, found)
    return as_json(row)


@router.post("/deliveries:replay", status_code=202)
async def replay_since(request: Request, context: Ctx, tenant: Who) -> JSONResponse:
    """Deliver all since a time again: `{"since": "...", "endpoint": "...", "state": "dead"}`."""
    since, which = _asked(await body(request, 16_384))
    count = await run_in_threadpool(History(context.engine).replay_since, tenant.id, since, which)
    return JSONResponse({"replayed": count}, status_code=202)


def _as_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"there is no delivery {text[:64]!r}") from None


def _asked(raw: bytes) -> tuple[datetime, Filter]:
    try:
        payload = json.loads(raw)
    except ValueError as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None
    if not isinstance(payload, dict) or (
        unknown := payload.keys() - {"since", "endpoint", "state"}
    ):
        names = sorted(unknown) if isinstance(payload, dict) else ["body"]
        raise InvalidRequest("unknown fields", tuple(FieldError(n, "is not known") for n in names))
    if payload.get("state") not in {None, "delivered", "dead"}:
        raise _bad("state", "must be delivered or dead")
    try:
        endpoint = UUID(payload["endpoint"]) if payload.get("endpoint") else None
    except (ValueError, AttributeError, TypeError):
        raise _bad("endpoint", "must be an endpoint's id") from None
    try:
        since = datetime.fromisoformat(payload["since"])
    except (KeyError, ValueError, TypeError):
        raise _bad("since", "must be a time, such as 2026-01-31T12:00:00Z") from None
    return since.replace(tzinfo=since.tzinfo or UTC), Filter(None, endpoint, payload.get("state"))


def _bad(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {message}", (FieldError(field, message),))
