"""`/v1/jobs`: submit, show, list and cancel jobs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app import trace
from app.api.admission import Admitted
from app.api.context import Context, Ctx, Who, as_id, body
from app.api.hub import POLL_S, wait_and_reset
from app.errors import FieldError, InvalidJson, InvalidRequest, NotCancellable
from app.jobs.accept import Submission, accept
from app.jobs.request import LIMIT_BYTES, JobRequest, parse
from renderfarm.types import Status

if TYPE_CHECKING:
    from app.jobs.records import Stored
    from app.tenants.tenants import Tenant

router = APIRouter(prefix="/v1", tags=["jobs"])
MAX_BATCH = 1000
Key = Annotated[str | None, Header(alias="Idempotency-Key")]
Trace = Annotated[str | None, Header(alias=trace.NAME)]
MAX_WAIT_S = 60.0
MAX_PAGE = 200
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": JobRequest.model_json_schema()}},
    }
}


@router.post("/jobs", status_code=202, openapi_extra=_BODY)
async def submit(
    request: Request,
    context: Ctx,
    _: Admitted,
    tenant: Who,
    key: Key = None,
    traceparent: Trace = None,
) -> JSONResponse:
    """Submit one job: 202 with the new job, 200 with the first one if the key is repeated."""
    raw = await body(request)

    def work() -> tuple[Stored, dict[str, Any]]:
        submission = Submission(parse(raw), key, trace.read(traceparent))
        (stored,) = accept(context.door, tenant, [submission])
        if stored.created:
            return stored, context.jobs([stored.row], tenant.url_expiry_s)[0]
        return stored, context.job(tenant, stored.row["id"])

    stored, job = await run_in_threadpool(work)
    headers = {"Location": f"/v1/jobs/{job['id']}"}
    return JSONResponse(job, status_code=202 if stored.created else 200, headers=headers)


@router.post("/jobs:batch", status_code=202)
async def submit_batch(
    request: Request,
    context: Ctx,
    _: Admitted,
    tenant: Who,
    key: Key = None,
    traceparent: Trace = None,
) -> JSONResponse:
    """Submit up to 1,000 jobs, `{"jobs": [...]}`: all are accepted, or none."""
    raw = await body(request, LIMIT_BYTES * 16)

    def work() -> list[dict[str, Any]]:
        submissions = [
            Submission(item, key and f"{key}.{n}", trace.read(traceparent))
            for n, item in enumerate(_parse_batch(raw))
        ]
        stored = accept(context.door, tenant, submissions, within="jobs")
        return context.jobs([item.row for item in stored], tenant.url_expiry_s)

    return JSONResponse({"jobs": await run_in_threadpool(work)}, status_code=202)


@router.get("/jobs/{job_id}")
async def show(
    job_id: str,
    context: Ctx,
    tenant: Who,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0.0,
) -> dict[str, Any]:
    """Show the job; with `wait`, hold the answer until it is final or the time is over."""
    found = as_id(job_id)
    until = time.monotonic() + wait
    with context.hub.watch(str(found)) as changed:
        while True:
            job = await run_in_threadpool(context.job, tenant, found)
            left_s = until - time.monotonic()
            if Status(job["status"]).final or left_s <= 0:
                return job
            await wait_and_reset(changed, min(left_s, POLL_S))


@router.get("/jobs")
async def list_jobs(  # noqa: PLR0917 - FastAPI gives them by name
    context: Ctx,
    tenant: Who,
    status: Status | None = None,
    model: Annotated[str | None, Query(pattern=r"^[^\x00]*$")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: str | None = None,
) -> dict[str, Any]:
    """List the tenant's jobs, newest first; `cursor` of one answer gives the next page."""
    before = _cursor(cursor) if cursor else None
    return await run_in_threadpool(
        _page, context, tenant, limit, status=status, model=model, before=before
    )


@router.post("/jobs/{job_id}/cancel")
async def cancel(job_id: str, context: Ctx, tenant: Who) -> dict[str, Any]:
    """Cancel a job that waits or runs; 409 if it has ended."""
    found = as_id(job_id)

    def work() -> dict[str, Any]:
        done = context.store.cancel(found, tenant.id)
        job = context.job(tenant, found)
        if not done:
            raise NotCancellable(f"the job is {job['status']} already")
        return job

    return await run_in_threadpool(work)


def _cursor(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        message = "must be the cursor of an earlier answer"
        raise InvalidRequest(f"cursor {message}", (FieldError("cursor", message),)) from None


def _page(context: Context, tenant: Tenant, limit: int, **filters: Any) -> dict[str, Any]:
    rows = context.queries.page(tenant.id, limit=limit, **filters)
    jobs = context.jobs(rows, tenant.url_expiry_s)
    return {"jobs": jobs, "cursor": jobs[-1]["id"] if len(jobs) == limit else None}


def _parse_batch(raw: bytes) -> list[JobRequest]:
    try:
        batch = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None
    jobs = batch.get("jobs") if isinstance(batch, dict) else None
    if not isinstance(jobs, list) or not 0 < len(jobs) <= MAX_BATCH or len(batch) > 1:
        message = f"must be a list of 1 to {MAX_BATCH} submissions, and the only field"
        raise InvalidRequest(f"jobs {message}", (FieldError("jobs", message),))
    return [_parse_one(n, job) for n, job in enumerate(jobs)]


def _parse_one(n: int, job: object) -> JobRequest:
    try:
        return parse(json.dumps(job).encode())
    except InvalidRequest as error:
        raise error.within(f"jobs.{n}") from None
