"""Admission control (load shedding): how many submissions the API handles at once.

More are refused before they cost anything (backpressure). Otherwise a flood would wait in memory
for a thread and be answered after its senders have given up, and all other senders would wait
behind it. So each sender has a few places of its own, and at most half of all places. A sender is
identified by the key in its header, without a query: the query would be the first thing to wait
for.
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

MAX_SUBMISSIONS = 256
MAX_PER_SENDER = 8
"""Submissions of one sender that run at the same time; fewer than there are threads or connections.
"""


@dataclass(slots=True)
class _Sender:
    in_progress: int = 0
    """Submissions in progress: running, or waiting to run."""
    running: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(MAX_PER_SENDER))


class AdmissionControl:
    """Belongs to the API's event loop."""

    def __init__(self, limit: int = MAX_SUBMISSIONS) -> None:
        self.limit = limit
        self.in_progress = 0
        self._senders: dict[str, _Sender] = {}

    @asynccontextmanager
    async def enter(self, sender: str) -> AsyncIterator[None]:
        """Hold a place while a submission is handled, and wait for this sender's turn.

        Raises `Unavailable` if too many submissions are in progress, of all senders or of this one.
        """
        own = self._senders.get(sender) or _Sender()
        if self.in_progress >= self.limit:
            raise Unavailable(
                f"the farm has {self.in_progress} submissions in progress (limit {self.limit}); "
                "try again"
            )
        if own.in_progress >= (limit := self.limit // 2):
            raise Unavailable(
                f"you have {own.in_progress} submissions in progress (limit {limit}); try again"
            )
        self._senders[sender] = own
        self.in_progress += 1
        own.in_progress += 1
        try:
            async with own.running:
                yield
        finally:
            self.in_progress -= 1
            own.in_progress -= 1
            if not own.in_progress:
                del self._senders[sender]


async def hold_place(request: Request) -> AsyncIterator[None]:
    """Hold a place while the request is handled."""
    admission: AdmissionControl = request.app.state.admission
    async with admission.enter(request.headers.get("authorization", "")):
        yield


Admitted = Annotated[None, Depends(hold_place)]
