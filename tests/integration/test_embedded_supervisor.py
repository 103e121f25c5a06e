"""The supervisor, with real processes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.local.errors import StartError
from app.local.output import Output
from app.local.program import Program
from app.local.restart import State
from app.local.supervisor import SAME_SIGNAL_S, Supervisor
from tests.waiting import poll

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

SMALL_FARM = Path(__file__).with_name("small_farm.py")
PATIENCE_S = 30.0
POLL_S = 0.02


def shell(name: str, script: str, **more: object) -> Program:
    """Return a program that is a shell script."""
    return Program(name=name, argv=("sh", "-c", script), **more)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_async(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds, while the event loop goes on."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the condition is in another process
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def supervisor(folder: Path) -> AsyncIterator[tuple[Supervisor, io.StringIO]]:
    """Yield a supervisor and its screen, and stop it at the end."""
    screen = io.StringIO()
    farm = Supervisor(Output(screen, folder, colour=False))
    try:
        yield farm, screen
    finally:
        await farm.stop()


@contextmanager
def small_farm(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """Yield a supervisor in its own process with two ready children, and their pids."""
    with subprocess.Popen(
        [sys.executable, str(SMALL_FARM), str(folder), *more],
        env={**os.environ, "PYTHONPATH": str(SMALL_FARM.parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    ) as farm:
        try:
            assert poll((folder / "pids.json").exists, PATIENCE_S)
            yield farm, json.loads((folder / "pids.json").read_text())
        finally:
            farm.kill()


def test_killed_child_starts_again(tmp_path: Path) -> None:
    """A killed child is started again with another pid, and the log says why."""

    async def scenario() -> None:
        async with supervisor(tmp_path) as (farm, screen):
            await farm.start(shell("child", "exec sleep 1000"))
            first = farm.pids["child"]
            os.kill(first, signal.SIGKILL)
            await until_async(lambda: farm.pids.get("child", first) != first)
            assert "child killed by SIGKILL; starts again in 0.5 s" in screen.getvalue()

    asyncio.run(scenario())


def test_hopeless_child_fails_the_start(tmp_path: Path) -> None:
    """A child that is never ready ends the start, and the error has its last line."""

    async def scenario() -> None:
        async with supervisor(tmp_path) as (farm, _):
            hopeless = shell("child", "echo no such model >&2; exit 3", ready=lambda: False)
            with pytest.raises(StartError, match="child exited with 3: no such model"):
                await farm.start(hopeless)
            assert farm.states == {"child": State.FAILED}

    asyncio.run(scenario())


def test_missing_program_fails_the_start(tmp_path: Path) -> None:
    """A missing program is an error of the start, not a hang."""

    async def scenario() -> None:
        async with supervisor(tmp_path) as (farm, _):
            with pytest.raises(StartError, match="child exited with"):
                await farm.start(
                    Program(name="child", argv=("/no/such/thing",), ready=lambda: False)
                )

    asyncio.run(scenario())


def test_child_that_is_not_ready_in_time_is_replaced(tmp_path: Path) -> None:
    """A start that hangs is killed and repeated; the second start is ready."""
    flag = tmp_path / "flag"

    async def scenario() -> None:
        async with supervisor(tmp_path / "log") as (farm, screen):
            program = shell(
                "child",
                f"[ -e {flag} ] && touch {flag}.ready; touch {flag}; exec sleep 1000",
                ready=Path(f"{flag}.ready").exists,
                start_timeout_s=1.0,
            )
            await farm.start(program)
            assert "child was not ready in 1 s and is killed" in screen.getvalue()

    asyncio.run(scenario())


def test_tiers_start_in_order(tmp_path: Path) -> None:
    """A tier starts only after the earlier tier is ready."""
    flag = tmp_path / "flag"

    async def scenario() -> None:
        async with supervisor(tmp_path / "log") as (farm, _):
            await farm.start(shell("first", f"touch {flag}; exec sleep 1000", ready=flag.exists))
            await farm.start(shell("second", f"[ -e {flag} ] && exec sleep 1000"))
            assert list(farm.states.values()) == [State.READY, State.READY]

    asyncio.run(scenario())


def test_ready_when_it_says_so(tmp_path: Path) -> None:
    """A program with a `ready_text` is not ready before it has printed it."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    async def scenario() -> None:
        async with supervisor(tmp_path / "log") as (farm, _):
            program = shell(
                "child", f"echo hello; cat {gate}; exec sleep 1000", ready_text="started"
            )
            start = asyncio.create_task(farm.start(program))
            await until_async((tmp_path / "log" / "child.log").exists)
            assert farm.states == {"child": State.STARTING}
            await asyncio.to_thread(gate.write_text, "started\n")
            await start
            assert farm.states == {"child": State.READY}

    asyncio.run(scenario())


def test_what_a_child_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """A grandchild is killed with its parent, so it keeps neither a port nor the log open."""
    note = tmp_path / "pid"

    async def scenario() -> None:
        async with supervisor(tmp_path / "log") as (farm, _):
            script = f"sleep 1000 & echo $! > {note}.new; mv {note}.new {note}; exec sleep 1000"
            await farm.start(shell("child", script, ready=note.exists))
            grandchild = int(note.read_text())
            note.unlink()
            os.kill(farm.pids["child"], signal.SIGKILL)
            await until_async(lambda: not alive(grandchild))

    asyncio.run(scenario())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_all_in_reverse(tmp_path: Path, number: signal.Signals) -> None:
    """At SIGTERM or SIGINT the farm stops its children, the last one first, and exits with 0."""
    with small_farm(tmp_path) as (farm, pids):
        farm.send_signal(number)
        output, _ = farm.communicate(timeout=PATIENCE_S)
        assert farm.returncode == 0
        assert output.index("bye from second") < output.index("bye from first")
        assert not any(alive(pid) for pid in pids.values())


def test_second_signal_kills(tmp_path: Path) -> None:
    """A child that does not stop is killed at once by the second Ctrl-C."""
    with small_farm(tmp_path, "stubborn") as (farm, pids):
        farm.send_signal(signal.SIGINT)
        assert farm.stdout is not None
        while "stopping" not in farm.stdout.readline():
            assert farm.poll() is None
        assert alive(pids["second"])

        asked_at = time.monotonic()
        assert poll(lambda: time.monotonic() > asked_at + SAME_SIGNAL_S, PATIENCE_S)
        farm.send_signal(signal.SIGINT)
        assert farm.wait(PATIENCE_S) == 0
        assert not any(alive(pid) for pid in pids.values())


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_no_orphan_after_kill_9(tmp_path: Path) -> None:
    """When the supervisor is killed, its children end."""
    with small_farm(tmp_path) as (farm, pids):
        farm.kill()
        assert poll(lambda: not any(alive(pid) for pid in pids.values()), PATIENCE_S)
