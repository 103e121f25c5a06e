"""`GET /v1/jobs/{id}/events`: server-sent events of a job, until its final state.

`state` carries the whole job. `progress` carries its step and, about twice a second while it
renders, a preview: a small picture as a data URL. A comment line is sent when nothing happens, so
that proxies keep the connection open.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.api.context import Context, Ctx, Who, as_id
from app.api.hub import POLL_S, wait_and_reset
from renderfarm.types import Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from app.tenants.tenants import Tenant

router = APIRouter(prefix="/v1", tags=["jobs"])
QUIET_S = 15.0


@router.get("/jobs/{job_id}/events")
async def events(job_id: str, context: Ctx, tenant: Who) -> StreamingResponse:
    """Stream the job's events from now on, starting with its current state."""
    found = as_id(job_id)
    await run_in_threadpool(context.job, tenant, found)  # an unknown job is a 404, not a stream
    return StreamingResponse(
        _stream(context, tenant, found),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _stream(context: Context, tenant: Tenant, job_id: UUID) -> AsyncIterator[str]:
    status, step, spoke_at = None, 0, time.monotonic()
    with (
        context.hub.watch(str(job_id)) as changed,
        context.previews.watch(str(job_id), changed) as latest,
    ):
        while True:
            job = await run_in_threadpool(context.job, tenant, job_id)
            if status is None:  # the first state includes the progress so far
                step = job["progress"]["step"]
            preview = latest.take()
            if job["progress"]["step"] != step or preview is not None:
                step = job["progress"]["step"]
                spoke_at = time.monotonic()
                yield _event("progress", {**job["progress"], "preview": preview})
            if job["status"] != status:
                status = job["status"]
                spoke_at = time.monotonic()
                yield _event("state", job)
            if Status(job["status"]).final:
                return
            if time.monotonic() - spoke_at > QUIET_S:
                spoke_at = time.monotonic()
                yield ": keep-alive\n\n"
            await wait_and_reset(changed, POLL_S)


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
