"""Ids: UUIDs of version 7 (RFC 9562), so that the newest id is also the largest.

The SDK makes the same ids for messages on a queue, without any library; it has the one function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from renderfarm.queues.envelope import new_id

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["made_at_s", "new_id"]


def made_at_s(uuid: UUID) -> float:
    """The Unix time, in seconds, at which `new_id` made the id. Meaningless for any other UUID."""
    return (uuid.int >> 80) / 1000
