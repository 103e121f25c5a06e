"""A readers-writer lock on the worker's process: many jobs share it, or one job has it exclusively.

A job whose worker was lost is a suspect: it may have caused the loss. It runs exclusively in the
whole process, not only in its batch, so a second crash affects no other job. Suspects have
precedence (the lock prefers writers). A job that waits for a suspect is not claimed yet, so a crash
costs an attempt of the suspect only.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ProcessLock:
    """Lets jobs in, shared or exclusive. Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._suspects = 0
        self._exclusive = False

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with others. Waits while a suspect holds it or waits for it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._suspects)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock alone. Waits until no one holds it; no new holder enters meanwhile."""
        with self._changed:
            self._suspects += 1
            self._changed.wait_for(lambda: not self._sharing and not self._exclusive)
            self._exclusive = True
        try:
            yield
        finally:
            with self._changed:
                self._exclusive = False
                self._suspects -= 1
                self._changed.notify_all()
