"""`/v1/uploads`: upload an input picture. `/v1/cdn-cookie`: one cookie for all images."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from app.api.context import Ctx, Who
from app.errors import NotFound
from app.storage import uploads

router = APIRouter(prefix="/v1", tags=["uploads"])


@router.post("/uploads", status_code=201)
async def add(context: Ctx, tenant: Who) -> dict[str, Any]:
    """Create a presigned URL for a PUT, valid for 15 minutes.

    Use `key` as `image` or `mask` then.
    """
    name = uploads.new_name()
    key = uploads.key_of(tenant.id, name)
    url = await run_in_threadpool(context.storage.upload_url, key, uploads.LASTS_S)
    now = datetime.now(UTC)
    kept = timedelta(seconds=context.settings.keep_uploads_s)
    azure = context.settings.storage_url.startswith("az:")
    return {
        "key": name,
        "url": url,
        "method": "PUT",
        "headers": {"x-ms-blob-type": "BlockBlob"} if azure else {},
        "expires_at": (now + timedelta(seconds=uploads.LASTS_S)).isoformat(),
        "kept_until": (now + kept).isoformat(),
        "limit_bytes": uploads.LIMIT_UPLOAD_BYTES,
    }


@router.get("/cdn-cookie")
async def cookie(context: Ctx, tenant: Who) -> dict[str, Any]:
    """Return a cookie for pages with many images.

    It opens all of the tenant's on Google Cloud CDN.
    """
    lasts_s = tenant.url_expiry_s
    found = await run_in_threadpool(context.storage.cookie, str(tenant.id), lasts_s)
    if found is None:
        raise NotFound("the farm's images are not behind a CDN with cookies")
    value, expires = found
    at = datetime.fromtimestamp(expires, UTC).isoformat()
    return {"name": "Cloud-CDN-Cookie", "value": value, "expires_at": at}
