"""The readers-writer lock of a worker's process."""

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


class Holder:
    """A thread that takes the lock, and releases it when the test asks."""

    def __init__(self, side: AbstractContextManager[None]) -> None:
        self.holds = threading.Event()
        self._released = threading.Event()
        self._side = side
        self._thread = threading.Thread(target=self._hold, daemon=True)
        self._thread.start()

    def _hold(self) -> None:
        with self._side:
            self.holds.set()
            self._released.wait(PATIENCE_S)

    def release(self) -> None:
        """Release the lock; return after it is released."""
        self._released.set()
        self._thread.join(PATIENCE_S)


def wait_for_suspects(lock: ProcessLock, count: int) -> None:
    """Return when this many suspects hold the lock or wait for it."""
    with lock._changed:
        while lock._suspects < count:
            lock._changed.release()
            lock._changed.acquire()


def test_many_jobs_share_the_lock() -> None:
    """Jobs that are no suspects do not wait for each other."""
    lock = ProcessLock()
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(lock.shared())


def test_a_suspect_waits_for_all_holders_and_blocks_new_ones() -> None:
    """While a suspect waits for the lock or holds it, no other job gets the lock."""
    lock = ProcessLock()
    first = Holder(lock.shared())
    assert first.holds.wait(PATIENCE_S)
    suspect = Holder(lock.exclusive())
    wait_for_suspects(lock, 1)
    late = Holder(lock.shared())
    assert not suspect.holds.is_set()
    first.release()
    assert suspect.holds.wait(PATIENCE_S)
    assert not late.holds.is_set()
    suspect.release()
    assert late.holds.wait(PATIENCE_S)
    late.release()


def test_suspects_go_one_after_another() -> None:
    """Of many suspects one holds the lock at a time, and each gets its turn."""
    lock, holders, most, turns = ProcessLock(), 0, 0, 0

    def hold(_: int) -> None:
        nonlocal holders, most, turns
        with lock.exclusive():
            holders += 1
            most = max(most, holders)
            turns += 1
            holders -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(200)))
    assert (most, turns) == (1, 200)


def test_an_error_releases_the_lock() -> None:
    """A job that raises holds the lock no longer."""
    lock = ProcessLock()
    for side in (lock.exclusive, lock.shared):
        with pytest.raises(KeyError), side():
            raise KeyError("no such job")
    with lock.exclusive():
        pass
