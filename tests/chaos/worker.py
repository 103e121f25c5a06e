"""Fault injection: a real worker whose renderer does what the job's prompt says.

    poison    ends the process, as a segmentation fault would
    hang      the device does not return, while the process lives; once for each job
    slow N    takes N seconds
    hole      the process ends when the job's hint has left Redis and is stored nowhere; once

Any other prompt renders at once. The program has no code for any of this.
"""

# ruff: noqa: E402 - the clock must be wrong before any module reads it

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
from workers.device import build
from workers.device.null import NullEngine

if TYPE_CHECKING:
    from workers.engine.request import Outcome, Request


class FaultyEngine(NullEngine):
    """The null renderer, with the faults that prompts name."""

    def add(self, request: Request, checkpoint: bytes | None = None) -> None:
        """Take a request; a `slow` one sets the time of a render."""
        word, _, seconds = request.prompt.partition(" ")
        self._delay_s = {request.model: float(seconds) if word == "slow" else 0.0}
        super().add(request, checkpoint)

    def step(self) -> list[Outcome]:
        """Do a step, or the fault that the prompt of a request in flight names."""
        for name, (_, request) in self._jobs.items():
            if request.prompt == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            if request.prompt == "hang" and first("hang-" + name.partition(".")[0]):
                threading.Event().wait()
        return super().step()


def first(name: str) -> bool:
    """Whether this is the first call with this name by any worker of the farm."""
    folder = Path(os.environ["RENDERFARM_DIR"]) / "seen"
    folder.mkdir(exist_ok=True)
    try:
        (folder / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


DELIVER = Transport._deliver


class LossyTransport(Transport):
    """The transport from Redis, which loses hints: it kills the worker after BRPOP."""

    def _deliver(self, message: Any, queue: Any) -> None:
        headers = message.get("headers", {})
        if headers.get("argsrepr", "").endswith(": hole") and first(
            "hole-" + headers["id"].partition(".")[0]
        ):
            os.kill(os.getpid(), signal.SIGKILL)
        DELIVER(self, message, queue)


def inject_faults() -> None:
    """Replace the renderer and the transport by those with faults."""
    vars(build)["NullEngine"] = FaultyEngine
    Transport._deliver = LossyTransport._deliver


if __name__ == "__main__":
    inject_faults()
    program.main()
