"""How many submissions are handled at once. More are refused at the door, before they cost anything.

Without it a flood would wait in memory for a thread and be answered when its senders have given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from app.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MOST = 256


class Crowd:
    """Belongs to the API's event loop."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.inside = 0

    def enter(self) -> None:
        """Be handled; raises `Unavailable` when too many are."""
        if self.inside >= self.most:
            raise Unavailable(f"{self.most} submissions are being handled; try again")
        self.inside += 1

    def leave(self) -> None:
        """Have been handled."""
        self.inside -= 1


async def inside(request: Request) -> AsyncIterator[None]:
    """Count the request in while it is handled."""
    crowd: Crowd = request.app.state.crowd
    crowd.enter()
    try:
        yield
    finally:
        crowd.leave()


Inside = Annotated[None, Depends(inside)]
