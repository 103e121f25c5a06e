"""Uploads: pictures that a tenant puts into the store first and then names in requests.

Clients know an upload as `uploads/{id}`. Its key is `{tenant}/uploads/{id}`, so that no tenant can
name another tenant's upload. The id contains the time of creation, and so the upload's age.
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
    """Return the name of a new upload, as its tenant knows it."""
    return f"{FOLDER}{new_id()}"


def is_name(text: str) -> bool:
    """Whether a field of a request names an upload."""
    return _NAME.fullmatch(text) is not None


def key_of(tenant_id: UUID, name: str) -> str:
    """Return the key of a tenant's upload."""
    return f"{tenant_id}/{name}"


def name_of(key: str) -> str | None:
    """Return the name of the upload under a key of the store; None for other keys."""
    found = _KEY.fullmatch(key)
    return found["name"] if found else None


def made_at(name: str) -> float:
    """Return the Unix second at which an upload was created, from its name."""
    return made_at_s(UUID(name.removeprefix(FOLDER)))
