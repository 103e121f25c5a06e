"""The message of a request: JSON in UTF-8, with the job's id inside.

The producer makes the id, so that a message delivered twice is still one job, and the producer can
ask for its job before the farm has read the message.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping


def pack(request: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return the job's id and the message's body; the id is made here if the request has none.

    Raises `ValueError` for an id that is not a UUID and for NaN and infinities, `TypeError` for
    values that JSON cannot hold.
    """
    job_id = str(UUID(str(request["id"])) if request.get("id") is not None else new_id())
    body = json.dumps({**request, "id": job_id}, ensure_ascii=False, allow_nan=False)
    return job_id, body.encode()


def new_id(now_ms: int | None = None) -> UUID:
    """Return a UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    random = secrets.randbits(74)
    value = (milliseconds & (2**48 - 1)) << 80
    value |= 0x7 << 76 | (random >> 62) << 64
    value |= 0b10 << 62 | random & (2**62 - 1)
    return UUID(int=value)
