"""Restart policy (backoff): what to do when a process has ended. Plain Python, without a clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from signal import Signals

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0  # a process that lived this long starts again with the shortest pause
FIRST_TRIES = 3  # how often a process may end before it was ever ready


class State(StrEnum):
    """The state of a process. Any state changes to `stopped` when the farm ends.

    `starting` -> `ready` when its own check says so; both -> `pausing` when it ends by itself;
    `pausing` -> `starting` after the pause; `starting` -> `failed` if it was not ready in any of
    `FIRST_TRIES` starts, which ends the farm's start.
    """

    STARTING = "starting"
    READY = "ready"
    PAUSING = "pausing"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class RestartHistory:
    """The starts and exits of one process so far."""

    ever_ready: bool = False
    exits: int = 0
    pause_s: float = 0.0

    def after_exit(self, lived_s: float) -> RestartHistory:
        """Return the history after one more exit.

        The pause doubles unless the process was steady.
        """
        steady = lived_s >= STEADY_S
        pause_s = FIRST_PAUSE_S if steady or not self.pause_s else 2 * self.pause_s
        return RestartHistory(self.ever_ready, self.exits + 1, min(pause_s, LONGEST_PAUSE_S))

    def after_ready(self) -> RestartHistory:
        """Return the history of a process that was ready: from now on it is always restarted."""
        return RestartHistory(True, self.exits, self.pause_s)

    @property
    def next_state(self) -> State:
        """The next state of a process that has just ended."""
        failed = not self.ever_ready and self.exits >= FIRST_TRIES
        return State.FAILED if failed else State.PAUSING


def describe_exit(code: int) -> str:
    """Describe how a process ended: `exited with 1`, `killed by SIGKILL`."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"killed by {Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
