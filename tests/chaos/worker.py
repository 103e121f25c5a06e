"""A worker as it is, but for the renderer, which does what a job's prompt says.

    poison    ends the process, as a segmentation fault would
    hang      the device never comes back, while the process lives
    slow N    takes N seconds

Anything else is done at once. Nothing in the program knows of it.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from tests.chaos import clock
from workers import __main__ as program
from workers import models
from workers.null import NullEngine

if TYPE_CHECKING:
    from workers.engine.request import Outcome, Request


class Doomed(NullEngine):
    """The null renderer, obeying prompts."""

    def add(self, request: Request) -> None:
        """Take a request; `slow` ones later."""
        word, _, seconds = request.prompt.partition(" ")
        self._delay_s = {request.model: float(seconds) if word == "slow" else 0.0}
        super().add(request)

    def step(self) -> list[Outcome]:
        """Do what the prompts of those that are here say."""
        prompts = {request.prompt for _, request in self._jobs.values()}
        if "poison" in prompts:
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang" in prompts:
            threading.Event().wait()
        return super().step()


if __name__ == "__main__":
    clock.shift()
    models.NullEngine = Doomed  # type: ignore[misc]
    program.main()
