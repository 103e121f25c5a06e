"""How many submissions are handled at once. More are refused at the door, before they cost anything.

Without it a flood would wait in memory for a thread and be answered when its senders have given up; and
whoever else came would wait behind it. So each sender has a lane of its own, a few threads wide, and no
more than half of the places. A sender is known by its key as it came: to ask the records who it is
would be the first thing to wait for.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import anyio
from fastapi import Depends, Request

from app.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MOST = 256
MAX_PER_SENDER = 8
"""Submissions of one sender that are worked on; fewer than there are threads or connections."""


@dataclass(slots=True)
class _Lane:
    inside: int = 0
    """Being handled: worked on, or waiting for that."""
    room: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(MAX_PER_SENDER))


class AdmissionControl:
    """Belongs to the API's event loop."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.inside = 0
        self._lanes: dict[str, _Lane] = {}

    @asynccontextmanager
    async def enter(self, sender: str) -> AsyncIterator[None]:
        """Be handled, when it is this sender's turn.

        Raises `Unavailable` when too many submissions are being handled, of all or of this sender.
        """
        lane = self._lanes.get(sender) or _Lane()
        if self.inside >= self.most:
            raise Unavailable(f"{self.most} submissions are being handled; try again")
        if lane.inside >= (most := self.most // 2):
            raise Unavailable(f"{most} submissions of yours are being handled; try again")
        self._lanes[sender] = lane
        self.inside += 1
        lane.inside += 1
        try:
            async with lane.room:
                yield
        finally:
            self.inside -= 1
            lane.inside -= 1
            if not lane.inside:
                del self._lanes[sender]


async def inside(request: Request) -> AsyncIterator[None]:
    """Count the request in while it is handled."""
    admission: AdmissionControl = request.app.state.admission
    async with admission.enter(request.headers.get("authorization", "")):
        yield


Admitted = Annotated[None, Depends(inside)]
