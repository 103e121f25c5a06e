"""Uploads: pictures that a tenant puts into the store first, to name them in requests then.

Callers know an upload as `uploads/{id}`; it lies under `{tenant}/uploads/{id}`, so that no tenant
can name another's. Its id says when its place was made, and so how long it may still be named.
"""

from __future__ import annotations

import re
from uuid import UUID

from app.ids import made_at_s, new_id

LIMIT_UPLOAD_BYTES = 20 * 1024 * 1024
LASTS_S = 900
FOLDER = "uploads/"
_ID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NAME = re.compile(FOLDER + _ID)
_KEY = re.compile(f"{_ID}/(?P<name>{FOLDER}{_ID})")


def new_name() -> str:
    """A fresh upload, as its tenant calls it."""
    return f"{FOLDER}{new_id()}"


def is_name(text: str) -> bool:
    """Whether a request's field names an upload."""
    return _NAME.fullmatch(text) is not None


def key_of(tenant_id: UUID, name: str) -> str:
    """Where an upload of the tenant lies."""
    return f"{tenant_id}/{name}"


def name_of(key: str) -> str | None:
    """The name of the upload that lies under a key of the store; none: it holds something else."""
    found = _KEY.fullmatch(key)
    return found["name"] if found else None


def made_at(name: str) -> float:
    """The Unix second at which the place of an upload was made, by its name."""
    return made_at_s(UUID(name.removeprefix(FOLDER)))
