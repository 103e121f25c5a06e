"""Uploads: pictures that a tenant puts into the store first, to name them in requests then.

Callers know an upload as `uploads/{id}`; it lies under `{tenant}/uploads/{id}`, so that no tenant
can name another's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.jobs.ids import new_id

if TYPE_CHECKING:
    from uuid import UUID

LIMIT_UPLOAD_BYTES = 20 * 1024 * 1024
LASTS_S = 900
_NAME = re.compile(r"uploads/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_name() -> str:
    """A fresh upload, as its tenant calls it."""
    return f"uploads/{new_id()}"


def is_name(text: str) -> bool:
    """Whether a request's field names an upload."""
    return _NAME.fullmatch(text) is not None


def key_of(tenant_id: UUID, name: str) -> str:
    """Where an upload of the tenant lies."""
    return f"{tenant_id}/{name}"
