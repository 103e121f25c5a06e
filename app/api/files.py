"""`/files/{key}`: the embedded default's stand-in for a CDN. Signed, expiring, immutable.

Only a farm with `file://` storage has this route; any other hands out its own store's signed URLs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter
from fastapi.responses import FileResponse

from app.api.context import Ctx
from app.errors import NotFound, Refused
from app.results.signing import verify
from app.results.storage import IMMUTABLE

if TYPE_CHECKING:
    from app.settings import Settings

router = APIRouter(tags=["files"])
CONTENT_TYPES = {".png": "image/png", ".jpeg": "image/jpeg", ".webp": "image/webp"}


class BadSignature(Refused):
    """The URL was not signed by this farm, was altered, or its time has passed."""

    status = 403
    code = "bad_signature"


@router.api_route("/files/{key:path}", methods=["GET", "HEAD"])
def file(key: str, context: Ctx, expires: int = 0, signature: str = "") -> FileResponse:
    """An object, to whoever holds a URL that is signed and still valid. Answers `Range` requests."""
    secret = context.settings.secret
    if not secret or not verify(key, expires, signature, secret=secret, now=time.time()):
        raise BadSignature("the URL's signature is not valid, or no longer; ask for the job again")
    path = _path(context.settings, key)
    headers = {"Cache-Control": IMMUTABLE, "X-Content-Type-Options": "nosniff"}
    kind = CONTENT_TYPES.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=kind, headers=headers)


def _path(settings: Settings, key: str) -> Path:
    root = Path(unquote(urlsplit(settings.storage_url).path)).resolve()
    path = (root / key).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise NotFound("there is no such object")
    return path
