"""One supervised program: started, watched until ready, and restarted when it ends by itself."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from typing import TYPE_CHECKING

from app.local.child import reason
from app.local.errors import LocalError, StartError
from app.local.output import Lines
from app.local.restart import RestartHistory, State, describe_exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.local.output import Output
    from app.local.program import Program

POLL_S = 0.1
OUTPUT_GRACE_S = 2.0  # how long the children of an ended program may still write
READ_BYTES = 65_536
REMEMBERED_LINES = 50
SUPERVISOR_NAME = "up"


class Process:
    """One program of the supervisor. Only the event loop's thread uses this object."""

    def __init__(self, program: Program, output: Output, changed: Callable[[], None]) -> None:
        self.program = program
        self.state = State.STARTING
        self.pid: int | None = None
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._output, self._changed = output, changed
        self._history = RestartHistory()
        self._stopping, self._printed_ready_text = asyncio.Event(), asyncio.Event()
        self._last_lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
        self._task = asyncio.create_task(self._run(), name=program.name)

    async def stop(self) -> None:
        """End the program by its own signal, or by SIGKILL when its time is over."""
        self._stopping.set()
        self._signal(self.program.stop_signal)
        done, _ = await asyncio.wait({self._task}, timeout=self.program.stop_timeout_s)
        if not done:
            self._log(f"did not stop in {self.program.stop_timeout_s:g} s and is killed")
            self.kill()
            await asyncio.wait({self._task})
        self.first_ready.cancel()

    def kill(self) -> None:
        """End the program and everything that it has started, at once; it is not restarted."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    async def _run(self) -> None:
        """Run the program repeatedly, until it is stopped or cannot be started."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            ending = await self._run_once()
            if self._stopping.is_set():
                break
            self._history = self._history.after_exit(loop.time() - started)
            self.state = self._history.next_state
            if self.state is State.FAILED:
                self._give_up(ending)
                return
            self._log(f"{ending}; starts again in {self._history.pause_s:g} s")
            await self._pause()
        self.state = State.STOPPED

    async def _run_once(self) -> str:
        """Run the program once; return how it ended, in words."""
        self.state = State.STARTING
        self._printed_ready_text = asyncio.Event()
        if not self.program.ready_text:
            self._printed_ready_text.set()
        try:
            if self.program.before is not None:
                await asyncio.to_thread(self.program.before)
            if self._stopping.is_set():
                return "was stopped before it started"
            process, output = await self._spawn()
        except (LocalError, OSError) as error:
            self._last_lines.append(str(error))
            return f"could not be started: {error}"
        self.pid = process.pid
        if self._stopping.is_set():  # stop() was called during the start, before there was a pid
            self._signal(self.program.stop_signal)
        watch = asyncio.create_task(self._become_ready())
        pump = asyncio.create_task(self._pump(output))
        code = await process.wait()
        watch.cancel()
        self._signal(signal.SIGKILL)  # remaining processes of its group
        self.pid = None
        await asyncio.wait({pump}, timeout=OUTPUT_GRACE_S)
        pump.cancel()
        return describe_exit(code)

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
        """Start the program in its own session, so that Ctrl-C reaches only the supervisor.

        The pipe is our own, not asyncio's: asyncio would wait for the pipe's end, and so for any
        grandchild that holds it, before it reports that the program has ended.
        """
        reading, writing = os.pipe()
        output = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(reading, "rb")
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *self.program.guarded_argv,
                env=self.program.variables,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        return process, output

    async def _pump(self, output: asyncio.StreamReader) -> None:
        """Copy the program's output, line by line, until its end."""
        lines = Lines()
        while data := await output.read(READ_BYTES):
            self._write(lines.feed(data))
        self._write(lines.end())

    def _write(self, lines: list[str]) -> None:
        for line in lines:
            self._last_lines.append(line)
            self._output.line(self.program.name, line, quiet=self.program.quiet)
            if self.program.ready_text in line:
                self._printed_ready_text.set()

    async def _become_ready(self) -> None:
        """Record when the program is ready; kill it if it is not ready in time."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        try:
            async with asyncio.timeout(self.program.start_timeout_s):
                await self._ready()
        except TimeoutError:
            self._log(f"was not ready in {self.program.start_timeout_s:g} s and is killed")
            self._signal(signal.SIGKILL)
            return
        self.state, self._history = State.READY, self._history.after_ready()
        self._log(f"is ready after {loop.time() - begin:.1f} s (pid {self.pid})")
        if not self.first_ready.done():
            self.first_ready.set_result(None)
        self._changed()

    async def _ready(self) -> None:
        await self._printed_ready_text.wait()
        ready = self.program.ready
        while ready is not None and not await asyncio.to_thread(ready):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), self._history.pause_s)
        except TimeoutError:
            return

    def _give_up(self, ending: str) -> None:
        why = reason(list(self._last_lines))
        error = StartError(f"{self.program.name} {ending}: {why}")
        if not self.first_ready.done():
            self.first_ready.set_exception(error)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the program only, or SIGKILL to its whole group."""
        if self.pid is None:
            return
        try:
            (os.killpg if number is signal.SIGKILL else os.kill)(self.pid, number)
        except ProcessLookupError:
            return

    def _log(self, text: str) -> None:
        self._output.line(SUPERVISOR_NAME, f"{self.program.name} {text}")
