"""`/v1/endpoints`: where the tenant receives webhooks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app.api.context import Context, Ctx, Who, body
from app.errors import FieldError, InvalidJson, InvalidRequest, NotFound
from app.webhooks.endpoints import (
    MAX_GRACE_S,
    EndpointChange,
    EndpointRequest,
    Endpoints,
    as_json,
    parse,
)

if TYPE_CHECKING:
    from app.jobs.records import Row

router = APIRouter(prefix="/v1/endpoints", tags=["webhooks"])
GRACE_S = 86_400
LIMIT_BYTES = 16_384


def as_endpoint_id(text: str) -> UUID:
    """Return an endpoint's id from a path. Raises `NotFound` if it is not a UUID."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"there is no endpoint {text[:64]!r}") from None


@router.post("", status_code=201)
async def add(request: Request, context: Ctx, tenant: Who) -> JSONResponse:
    """Add an endpoint: 201, with the secret that signs its deliveries."""
    asked = await _asked(request, context, EndpointRequest)
    row, secret = await run_in_threadpool(_records(context).add, tenant.id, asked)
    location = {"Location": f"/v1/endpoints/{row['id']}"}
    return JSONResponse(as_json(row) | {"secret": secret}, status_code=201, headers=location)


@router.get("")
async def list_all(context: Ctx, tenant: Who) -> dict[str, Any]:
    """List the tenant's endpoints, oldest first."""
    rows: list[Row] = await run_in_threadpool(_records(context).of, tenant.id)
    return {"endpoints": [as_json(row) for row in rows]}


@router.get("/{endpoint_id}")
async def show(endpoint_id: str, context: Ctx, tenant: Who) -> dict[str, Any]:
    """Show one endpoint."""
    found = as_endpoint_id(endpoint_id)
    return as_json(await run_in_threadpool(_records(context).find, tenant.id, found))


@router.get("/{endpoint_id}/secret")
async def secret(endpoint_id: str, context: Ctx, tenant: Who) -> dict[str, str]:
    """Show the secret that signs its deliveries now."""
    found = as_endpoint_id(endpoint_id)
    return {"secret": await run_in_threadpool(_records(context).secret, tenant.id, found)}


@router.patch("/{endpoint_id}")
async def change(endpoint_id: str, request: Request, context: Ctx, tenant: Who) -> dict[str, Any]:
    """Change its URL, events or description; `enabled` stops it, or starts it again."""
    found = as_endpoint_id(endpoint_id)
    asked = await _asked(request, context, EndpointChange)
    row = await run_in_threadpool(_records(context).change, tenant.id, found, asked)
    return as_json(row)


@router.delete("/{endpoint_id}", status_code=204)
async def remove(endpoint_id: str, context: Ctx, tenant: Who) -> Response:
    """Remove the endpoint: nothing more is sent there."""
    found = as_endpoint_id(endpoint_id)
    await run_in_threadpool(_records(context).remove, tenant.id, found)
    return Response(status_code=204)


@router.post("/{endpoint_id}/rotate")
async def rotate(endpoint_id: str, request: Request, context: Ctx, tenant: Who) -> dict[str, Any]:
    """Make a new secret; for `grace_s` (one day) both secrets sign deliveries."""
    found = as_endpoint_id(endpoint_id)
    grace_s = _grace_s(await body(request, LIMIT_BYTES))
    row, made = await run_in_threadpool(_records(context).rotate, tenant.id, found, grace_s)
    return as_json(row) | {"secret": made}


def _records(context: Context) -> Endpoints:
    return Endpoints(context.engine)


async def _asked(request: Request, context: Context, form: type[Any]) -> Any:
    raw = await body(request, LIMIT_BYTES)
    return parse(raw, form, allow_private=context.settings.webhook_allow_private)


def _grace_s(raw: bytes) -> float:
    try:
        payload = json.loads(raw or b"{}")
    except ValueError as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None
    grace_s: Any = payload.get("grace_s", GRACE_S) if isinstance(payload, dict) else None
    number = isinstance(grace_s, int | float) and not isinstance(grace_s, bool)
    if not number or not 0 <= grace_s <= MAX_GRACE_S or len(payload) > ("grace_s" in payload):
        message = f"must be a number from 0 to {MAX_GRACE_S}, and the only field"
        raise InvalidRequest(f"grace_s {message}", (FieldError("grace_s", message),))
    return float(grace_s)
