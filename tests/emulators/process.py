"""An emulator in its own process, which can be killed and started again on its port."""

from __future__ import annotations

import re
import subprocess
import sys


class EmulatorProcess:
    """`python -m MODULE --port PORT ...`, ready when it has printed its first line."""

    def __init__(self, module: str, *options: str) -> None:
        self._command = [sys.executable, "-m", module, *options]
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, again on the same port."""
        self._process = subprocess.Popen(
            [*self._command, "--port", str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", self._process.stdout.readline())
        assert found is not None, "the emulator did not start"
        self.port = int(found[1])

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
