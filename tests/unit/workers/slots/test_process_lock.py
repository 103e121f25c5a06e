"""Who is in a worker together, and who is in alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from workers.slots.process_lock import ProcessLock

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

PATIENCE_S = 60.0


class Visitor:
    """A thread that enters the gate, and leaves when it is told to."""

    def __init__(self, way: AbstractContextManager[None]) -> None:
        self.inside = threading.Event()
        self._leave = threading.Event()
        self._way = way
        self._thread = threading.Thread(target=self._visit, daemon=True)
        self._thread.start()

    def _visit(self) -> None:
        with self._way:
            self.inside.set()
            self._leave.wait(PATIENCE_S)

    def leave(self) -> None:
        """Leave; returns when it is out."""
        self._leave.set()
        self._thread.join(PATIENCE_S)


def waiting(gate: ProcessLock, suspects: int) -> None:
    """Until so many suspects are in or wait."""
    with gate._changed:
        while gate._suspects < suspects:
            gate._changed.release()
            gate._changed.acquire()


def test_many_are_in_together() -> None:
    """Jobs that nothing is held against do not wait for each other."""
    gate = ProcessLock()
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(gate.shared())


def test_a_suspect_waits_until_all_are_out_and_keeps_others_out() -> None:
    """While a suspect waits nobody else comes in, and while it is in nobody is."""
    gate = ProcessLock()
    first = Visitor(gate.shared())
    assert first.inside.wait(PATIENCE_S)
    suspect = Visitor(gate.exclusive())
    waiting(gate, 1)
    late = Visitor(gate.shared())
    assert not suspect.inside.is_set()
    first.leave()
    assert suspect.inside.wait(PATIENCE_S)
    assert not late.inside.is_set()
    suspect.leave()
    assert late.inside.wait(PATIENCE_S)
    late.leave()


def test_suspects_go_one_after_another() -> None:
    """Of many suspects one is in at a time, and each has its turn."""
    gate, inside, most, turns = ProcessLock(), 0, 0, 0

    def visit(_: int) -> None:
        nonlocal inside, most, turns
        with gate.exclusive():
            inside += 1
            most = max(most, inside)
            turns += 1
            inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(200)))
    assert (most, turns) == (1, 200)


def test_an_error_inside_opens_the_gate_again() -> None:
    """A job that raises is out like any other."""
    gate = ProcessLock()
    for way in (gate.exclusive, gate.shared):
        with pytest.raises(KeyError), way():
            {}["no such job"]
    with gate.exclusive():
        pass
