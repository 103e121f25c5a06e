"""A worker as it is, but for the renderer, which does what a job's prompt says.

    poison    ends the process, as a segmentation fault would
    hang      the device never comes back, while the process lives; once for each job
    slow N    takes N seconds
    hole      the process ends when the job's hint has left Redis and is recorded nowhere; once

Anything else is done at once. Nothing in the program knows of it.
"""

# ruff: noqa: E402 - the clock is shifted before anything reads it

from __future__ import annotations

from tests.chaos import clock

clock.shift()

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kombu.transport.redis import Transport

from workers import __main__ as program
from workers.device import build as models
from workers.device.null import NullEngine

if TYPE_CHECKING:
    from workers.engine.request import Outcome, Request


class Doomed(NullEngine):
    """The null renderer, obeying prompts."""

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Take a request; `slow` ones later."""
        word, _, seconds = request.prompt.partition(" ")
        self._delay_s = {request.model: float(seconds) if word == "slow" else 0.0}
        super().add(request, checkpoint)

    def step(self) -> list[Outcome]:
        """Do what the prompts of those that are here say."""
        for name, (_, request) in self._jobs.items():
            if request.prompt == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            if request.prompt == "hang" and first("hang-" + name.partition(".")[0]):
                threading.Event().wait()
        return super().step()


def first(name: str) -> bool:
    """Whether this is the first time that any worker asks for this name."""
    folder = Path(os.environ["RENDERFARM_DIR"]) / "seen"
    folder.mkdir(exist_ok=True)
    try:
        (folder / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


DELIVER = Transport._deliver


class Leaky(Transport):
    """The way from Redis, with the hole of BRPOP made wide."""

    def _deliver(self, message: Any, queue: Any) -> None:
        headers = message.get("headers", {})
        if headers.get("argsrepr", "").endswith(": hole") and first(
            "hole-" + headers["id"].partition(".")[0]
        ):
            os.kill(os.getpid(), signal.SIGKILL)
        DELIVER(self, message, queue)


def doomed() -> None:
    """Put the renderer and the way from Redis in their places."""
    models.NullEngine = Doomed  # type: ignore[misc]
    Transport._deliver = Leaky._deliver


if __name__ == "__main__":
    doomed()
    program.main()
