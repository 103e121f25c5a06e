"""A whole farm, started like a user starts it, by `renderfarm up` on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.database import create_engine
from renderfarm import Farm
from tests.waiting import poll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy

COMMAND = Path(sys.executable).with_name("renderfarm")
START_S = 120.0


@dataclass
class Up:
    """A running `renderfarm up`."""

    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def access(self) -> dict[str, Any]:
        """The current content of `farm.json`."""
        found: dict[str, Any] = json.loads((self.directory / "farm.json").read_text())
        return found

    def sdk(self) -> Farm:
        """Return a client of this farm."""
        return Farm(self.access["url"], self.access["api_key"])

    def engine(self) -> sqlalchemy.Engine:
        """Return an engine for the farm's database."""
        return create_engine(self.access["database_url"], pool_size=2)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `renderfarm` as a user of this farm."""
        environment = {**os.environ, "RENDERFARM_DIR": str(self.directory), "NO_COLOR": "1"}
        return subprocess.run(
            [COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False
        )

    def stop(self) -> int:
        """Press Ctrl-C. Return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)


def eventually(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    """Poll the condition until its result is true, and return that; fail after `within_s`."""

    def result_or_none() -> Any:
        with contextlib.suppress(FileNotFoundError):
            return condition()
        return None

    result = poll(result_or_none, within_s, every_s=0.05)
    assert result, f"not within {within_s:.0f} s: {what}"
    return result


@contextlib.contextmanager
def running(directory: Path, *options: str, **environment: str) -> Iterator[Up]:
    """Yield a running farm, and stop it at the end if the test did not."""
    log = (directory / "up.log").open("ab")
    process = subprocess.Popen(
        [COMMAND, "up", "--dir", directory / "var", "--port=0", "--flower-port=0", *options],
        env={**os.environ, **environment},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    farm = Up(directory / "var", process)
    try:
        eventually(lambda: process.poll() is not None or farm.access, START_S, "the farm is up")
        assert process.poll() is None, (directory / "up.log").read_text()
        yield farm
    finally:
        if process.poll() is None:
            farm.stop()
        log.close()
