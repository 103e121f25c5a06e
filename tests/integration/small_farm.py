"""A supervisor with two harmless programs, for tests that end it from outside.

`python small_farm.py FOLDER [stubborn]`: writes FOLDER/pids.json when both are ready.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from app.local.output import Output
from app.local.program import Program
from app.local.secret import private_json
from app.local.supervisor import Supervisor

POLITE = "trap 'echo bye from $0; exit 0' TERM; echo ready; while :; do sleep 1 & wait; done"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1 & wait; done"


async def main(folder: Path, *, stubborn: bool) -> None:
    """Run `first`, then `second`, until a signal."""
    output = Output(sys.stdout, folder / "log", colour=False)
    farm = Supervisor(output)
    second = STUBBORN if stubborn else POLITE

    async def begin() -> None:
        await farm.start(
            Program(name="first", argv=("sh", "-c", POLITE, "first"), ready_text="ready")
        )
        await farm.start(
            Program(
                name="second",
                argv=("sh", "-c", second, "second"),
                ready_text="ready",
                stop_timeout_s=1000.0,
            )
        )
        private_json(folder / "pids.json", farm.pids)

    await farm.run(begin)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), stubborn="stubborn" in sys.argv))
