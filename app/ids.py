"""Job ids: UUIDs of version 7, so that newest first is also largest first."""

from __future__ import annotations

import secrets
import time
from uuid import UUID


def new_id(now_ms: int | None = None) -> UUID:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    random = secrets.randbits(74)
    value = (milliseconds & (2**48 - 1)) << 80
    value |= 0x7 << 76 | (random >> 62) << 64
    value |= 0b10 << 62 | random & (2**62 - 1)
    return UUID(int=value)


def made_at_s(made: UUID) -> float:
    """The Unix time, in seconds, at which `new_id` made an id. Of any other UUID: any time."""
    return (made.int >> 80) / 1000
