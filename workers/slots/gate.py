"""Who may be in a worker at the same time: many together, or one alone.

A job whose worker was lost is suspected of having ended it. It runs alone in the whole process, not
just in its batch: whatever it does there, it does to nobody else. Suspects go first, and whoever is
kept waiting by one holds no job yet, so that a crash costs the suspect an attempt and nobody else.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ProcessLock:
    """Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._suspects = 0
        self._alone = False

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Be in with others; waits while a suspect is in, or waits to be."""
        with self._changed:
            self._changed.wait_for(lambda: not self._suspects)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Be in with nobody else; waits until all others are out, and lets none in meanwhile."""
        with self._changed:
            self._suspects += 1
            self._changed.wait_for(lambda: not self._together and not self._alone)
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._suspects -= 1
                self._changed.notify_all()
