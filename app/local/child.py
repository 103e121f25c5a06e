"""Run one server without the supervisor: for tests and tools that need a database but no farm."""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from app.local.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

    from app.local.program import Program

POLL_S = 0.02


class Child:
    """A program with its output in a file, which ends at the latest with this process."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program, self.log = program, log
        self._log_start = 0  # position in the log at which the output of the latest start begins
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process, or None if it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and running else None

    def start(self) -> None:
        """Start the program and return when it is ready. A StartError has the reason."""
        if self.program.before is not None:
            self.program.before()
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                self.program.guarded_argv,
                env=self.program.variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._await_ready(time.monotonic() + self.program.start_timeout_s)

    def stop(self) -> None:
        """Ask the program to end, and kill it if it does not end in time. Safe to repeat."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self.program.stop_signal)
        try:
            process.wait(self.program.stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _await_ready(self, deadline: float) -> None:
        ready = self.program.ready
        while ready is not None and not ready():
            if self.pid is None:
                raise StartError(f"{self.program.name} ended at its start: {self._reason()}")
            if time.monotonic() > deadline:
                self.stop()
                raise StartError(f"{self.program.name} was not ready in time: see {self.log}")
            time.sleep(POLL_S)

    def _reason(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return reason(file.read().decode(errors="replace").splitlines())


class Server(ABC):
    """A server of the embedded farm. As a context manager it is a child of this process.

    Its data and its log are in `directory`.
    """

    directory: Path
    _child: Child | None = None

    @abstractmethod
    def program(self) -> Program:
        """Return how to run the server."""

    def start(self) -> Self:
        """Run the server as a child of this process; return when it answers."""
        program = self.program()
        self._child = Child(program, self.directory / f"{program.name}.log")
        self._child.start()
        return self

    def stop(self) -> None:
        """Shut the server down cleanly."""
        if self._child is not None:
            self._child.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def reason(lines: list[str]) -> str:
    """Return the reason in an ended program's output: the last FATAL line, or the last line."""
    fatal = [line for line in lines if "FATAL" in line]
    return (fatal or [line for line in lines if line.strip()] or ["it wrote no output"])[-1]
