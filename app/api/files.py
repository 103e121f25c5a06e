"""`/files/{key}`: the farm's own file server, where there is no CDN. URLs are signed and expire.

Only a farm with `file://` storage has this route. Any other farm hands out its store's presigned
URLs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from app.api.context import Ctx, body
from app.errors import NotFound, Refused
from app.storage.objects import IMMUTABLE
from app.storage.signing import as_upload, verify
from app.storage.uploads import LIMIT_UPLOAD_BYTES

if TYPE_CHECKING:
    from app.config.settings import Settings

router = APIRouter(tags=["files"])
CONTENT_TYPES = {
    ".png": "image/png",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".avif": "image/avif",
}


class BadSignature(Refused):
    """This farm did not sign the URL, or it was changed, or it has expired."""

    status = 403
    code = "bad_signature"


@router.head("/files/{key:path}", include_in_schema=False)
@router.get("/files/{key:path}")
def file(
    request: Request, key: str, context: Ctx, expires: int = 0, signature: str = ""
) -> Response:
    """Return an object to a client with a valid signed URL.

    Answers `Range` requests, and 304 if the client has the object already.
    """
    _check(context.settings, key, expires, signature)
    path = _path(context.settings, key)
    headers = {"Cache-Control": IMMUTABLE, "X-Content-Type-Options": "nosniff"}
    kind = CONTENT_TYPES.get(path.suffix, "application/octet-stream")
    whole = FileResponse(path, media_type=kind, headers=headers, stat_result=path.stat())
    etag = whole.headers["etag"]
    if _has(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers | {"ETag": etag})
    return whole


@router.put("/files/{key:path}", status_code=204)
async def upload(
    request: Request, key: str, context: Ctx, expires: int = 0, signature: str = ""
) -> Response:
    """Store an upload from a client with a URL that was signed for it: see `POST /v1/uploads`."""
    _check(context.settings, as_upload(key), expires, signature)
    data = await body(request, LIMIT_UPLOAD_BYTES)
    kind = request.headers.get("content-type", "application/octet-stream")
    await run_in_threadpool(context.storage.put, key, data, kind)
    return Response(status_code=204)


def _check(settings: Settings, signed: str, expires: int, signature: str) -> None:
    secret = settings.secret
    if not secret or not verify(signed, expires, signature, secret=secret, now=time.time()):
        raise BadSignature(
            "the URL's signature is invalid or has expired; get a new URL from the job"
        )


def _has(if_none_match: str, etag: str) -> bool:
    """Whether the client has this very object (RFC 9110, 13.1.2: a weak comparison)."""
    given = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return etag in given or "*" in given


def _path(settings: Settings, key: str) -> Path:
    root = Path(unquote(urlsplit(settings.storage_url).path)).resolve()
    path = (root / key).resolve()
    if str(path) != f"{root}/{key}" or not path.is_file():  # no dots, no links, no second name
        raise NotFound("there is no such object")
    return path
