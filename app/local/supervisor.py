"""Supervisor: starts processes in tiers, keeps them running, and stops them in reverse.

A tier is a group of processes that start together, when the tier before is ready. A tier stops when
the tier after it has ended. If this process is killed, its children end too: see `die_with_parent`.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from app.local.process import SUPERVISOR_NAME, Process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.local.output import Output
    from app.local.program import Program
    from app.local.restart import State

SAME_SIGNAL_S = 0.5


class Supervisor:
    """The processes of one farm. Create it inside a running event loop, in the main thread."""

    def __init__(self, output: Output, changed: Callable[[], None] = lambda: None) -> None:
        self._output, self._changed = output, changed
        self._tiers: list[list[Process]] = []
        self._stop_requested = asyncio.Event()
        self._stop_requested_at = 0.0

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each program that runs now."""
        return {p.program.name: p.pid for p in self._processes() if p.pid is not None}

    @property
    def states(self) -> dict[str, State]:
        """The state of each program."""
        return {p.program.name: p.state for p in self._processes()}

    async def start(self, *programs: Program) -> None:
        """Start programs together; return when all are ready.

        A StartError names one that failed.
        """
        tier = [Process(program, self._output, self._changed) for program in programs]
        self._tiers.append(tier)
        await asyncio.gather(*(process.first_ready for process in tier))

    async def run(self, begin: Callable[[], Awaitable[None]]) -> None:
        """Run the farm until SIGINT or SIGTERM, then stop it. A second signal kills.

        Raises the errors of `begin`, after everything has been stopped.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.interrupt)
        start = asyncio.ensure_future(begin())
        stop_request = asyncio.ensure_future(self._stop_requested.wait())
        try:
            await asyncio.wait({start, stop_request}, return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                start.result()
            await stop_request
        finally:
            start.cancel()
            stop_request.cancel()
            await self.stop()

    def interrupt(self) -> None:
        """Request the stop of the farm. A second request kills it.

        A signal within `SAME_SIGNAL_S` of the first is the same request, because some tools signal
        a process and its group at once.
        """
        now = asyncio.get_running_loop().time()
        if not self._stop_requested.is_set():
            self._output.line(SUPERVISOR_NAME, "stopping (Ctrl-C again to kill)")
            self._stop_requested.set()
            self._stop_requested_at = now
        elif now - self._stop_requested_at > SAME_SIGNAL_S:
            self.kill()

    async def stop(self) -> None:
        """Stop every process, the last tier first."""
        for tier in reversed(self._tiers):
            await asyncio.gather(*(process.stop() for process in tier))

    def kill(self) -> None:
        """End every process at once."""
        for process in self._processes():
            process.kill()

    def _processes(self) -> list[Process]:
        return [process for tier in self._tiers for process in tier]
