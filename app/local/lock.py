"""One farm per directory: a lock (flock) that the kernel releases when its holder ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.local.errors import InUseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def only_farm(directory: Path) -> Iterator[None]:
    """Hold `directory/farm.lock`. An InUseError names the process that holds it already.

    The file stays: if it were removed, two farms could lock two files of the same name.
    """
    with (directory / "farm.lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise InUseError(f"a farm already runs in {directory} (pid {pid})") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
