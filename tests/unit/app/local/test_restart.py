"""Restart policy: when a process that has ended starts again."""

from __future__ import annotations

import pytest

from app.local.restart import FIRST_TRIES, STEADY_S, RestartHistory, State, describe_exit


def pauses(exits: int) -> list[float]:
    """Return the pauses after quick ends in a row of a process that was ready."""
    life, seen = RestartHistory().after_ready(), []
    for _ in range(exits):
        life = life.after_exit(lived_s=1.0)
        seen.append(life.pause_s)
    return seen


def test_pause_doubles_up_to_its_limit() -> None:
    """The pauses of a process that ends again and again grow to at most 30 s."""
    assert pauses(9) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_steady_process_starts_afresh() -> None:
    """A process that ran for a minute starts again after the shortest pause."""
    worn = RestartHistory(ever_ready=True, exits=5, pause_s=30.0)
    assert worn.after_exit(lived_s=STEADY_S).pause_s == 0.5
    assert worn.after_exit(lived_s=STEADY_S - 0.1).pause_s == 30.0


def test_never_ready_is_given_up() -> None:
    """A process that was never ready fails after `FIRST_TRIES` starts, not before."""
    life = RestartHistory()
    states = []
    for _ in range(FIRST_TRIES):
        life = life.after_exit(lived_s=1.0)
        states.append(life.next_state)
    assert states == [State.PAUSING] * (FIRST_TRIES - 1) + [State.FAILED]


def test_once_ready_is_never_given_up() -> None:
    """A process that was ready once is always started again."""
    life = RestartHistory().after_ready()
    for _ in range(100):
        life = life.after_exit(lived_s=0.0)
        assert life.next_state is State.PAUSING


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exited with 0"), (3, "exited with 3"), (-9, "killed by SIGKILL"), (-77, "by signal 77")],
)
def test_exit_in_words(code: int, words: str) -> None:
    """An exit code is described in words."""
    assert words in describe_exit(code)
