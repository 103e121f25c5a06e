"""A program to run: its command line, how it becomes ready, and how it is stopped."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from app.local import die_with_parent
from app.local.errors import ProgramMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Program:
    """One process for the supervisor. The functions may block: they run in a thread.

    `before` runs before every start, also after a crash. A program is ready when its output
    contains `ready_text`, if that is set, and `ready`, which never raises, returns True. The screen
    shows only the alarms of a `quiet` program; its log file has every line.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None
    ready_text: str = ""
    ready: Callable[[], bool] | None = None
    quiet: bool = False
    start_timeout_s: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    orphan_signal: signal.Signals = signal.SIGKILL

    @property
    def guarded_argv(self) -> tuple[str, ...]:
        """The command line, with a guard that ends the program when this process ends."""
        number = str(int(self.orphan_signal))
        return (
            sys.executable,
            "-IS",
            die_with_parent.__file__,
            number,
            str(os.getpid()),
            *self.argv,
        )

    @property
    def variables(self) -> dict[str, str]:
        """The program's whole environment: the current one, then its own variables."""
        return {**os.environ, **self.environment}


def package_folder(package: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ProgramMissingError(
            f"{package} is not installed: run `make setup`, or configure your own servers"
        )
    return Path(spec.submodule_search_locations[0])
