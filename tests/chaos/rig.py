"""The rig of the chaos runs: a whole farm in plain processes on loopback, which may be killed.

One thread starts the processes and restarts those that ended, as a cluster does. It lives as long
as the rig, because the kernel ends the processes together with the thread that started them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil
import redis
import structlog

from app.config.repository import REPOSITORY
from app.database import create_engine, migrate
from app.dispatch import workers
from app.errors import first_line
from app.local import ports
from app.local.postgres import Postgres
from app.local.program import Program
from app.local.redis import Redis
from app.local.roles import COMMAND, answers
from app.tenants.keys import ensure_default
from renderfarm import Farm as Sdk
from tests.chaos import clock
from tests.chaos.proxy import Proxy
from tests.integration.records import FarmDatabase
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = structlog.get_logger("tests.chaos")
RESTART_POLL_S = 0.02
KEY = "rf_" + "chaos" * 8
MODELS = """
[null]
pipeline = "null"
[null.defaults]
width = 64
height = 64
num_inference_steps = 1
"""
WORKER = (sys.executable, "-m", "tests.chaos.worker")
QUICK = {
    "RENDERFARM_LEASE_S": "4",
    "RENDERFARM_RENEW_S": "1",
    "RENDERFARM_WATCHDOG_S": "3",
    "RENDERFARM_HINT_AGAIN_S": "2",
}
"""Shorter leases than a real farm has, so that many of them end during a run."""


class Actor:
    """One process of the farm. It is restarted whenever it has ended, unless `paused`."""

    def __init__(self, name: str, program: Callable[[], Program], log_file: Path) -> None:
        self.name = name
        self.paused = False
        self.starts = 0
        self.endings: list[int] = []
        """The return code of each ended process: minus the signal's number, or the exit code."""
        self._program = program
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The id of the running process; none if it does not run."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def supervise(self) -> None:
        """Record an end, and restart. Only the rig's supervising thread calls it."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self.endings.append(code)
            self._process = None
        if self._process is None and not self.paused:
            program = self._program()
            if program.before is not None:
                program.before()
            with self._log_file.open("ab") as output:
                self._process = subprocess.Popen(
                    program.guarded_argv,
                    env=program.variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            self.starts += 1

    def signal(self, number: signal.Signals) -> list[int]:
        """Send a signal to the process, and SIGSTOP and SIGCONT to its children too; their ids."""
        pids = []
        with suppress(psutil.NoSuchProcess):
            if (pid := self.pid) is not None:
                process = psutil.Process(pid)
                family = [process]
                if number in {signal.SIGSTOP, signal.SIGCONT}:
                    family += process.children(recursive=True)
                for each in family:
                    with suppress(psutil.NoSuchProcess):
                        each.send_signal(number)
                        pids.append(each.pid)
        return pids

    def logged(self, words: str) -> int:
        """How often these words occur in its log."""
        return self._log_file.read_text(errors="replace").count(words)


class Rig:
    """A farm's processes, its database and broker, and a client. Use it as a context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        workers_: int = 2,
        dispatchers: int = 2,
        slots: int = 16,
        settings: Mapping[str, str] | None = None,
        clocks_s: Mapping[str, int] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self._clocks_s = clocks_s or {}
        self._stack = ExitStack()
        self._stop = threading.Event()
        for name in ("postgres", "redis", "log"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "models.toml").write_text(MODELS)
        self.postgres = Postgres(self.folder / "postgres")
        self.redis = Redis(self.folder / "redis")
        self.proxy = Proxy(self.redis.port)
        self.api_port = ports.free()
        self.url = f"http://{ports.LOOPBACK}:{self.api_port}"
        self._environment = {
            "PYTHONPATH": str(REPOSITORY),
            "RENDERFARM_DIR": str(self.folder),
            "RENDERFARM_DATABASE_URL": self.postgres.url,
            "RENDERFARM_BROKER_URL": self.redis.url.replace(
                f":{self.redis.port}/", f":{self.proxy.port}/"
            ),
            "RENDERFARM_PUBLIC_URL": self.url,
            "RENDERFARM_PORT": str(self.api_port),
            "RENDERFARM_SECRET": "a secret of the chaos tests",
            "RENDERFARM_MODELS": str(self.folder / "models.toml"),
            "RENDERFARM_SERVE": "null",
            "RENDERFARM_SLOTS": str(slots),
            "RENDERFARM_WEBHOOK_ALLOW_PRIVATE": "1",
            **QUICK,
            **(settings or {}),
        }
        self.actors = {
            name: Actor(name, program, self.folder / "log" / f"{name}.log")
            for name, program in self._programs(workers_, dispatchers).items()
        }
        self._supervisor = threading.Thread(target=self._supervise, name="rig", daemon=True)

    def _programs(self, workers_: int, dispatchers: int) -> dict[str, Callable[[], Program]]:
        programs: dict[str, Callable[[], Program]] = {
            "postgres": self.postgres.program,
            "redis": self.redis.program,
            "api": self._role("api", (*COMMAND, "api")),
            "courier": self._role("courier", (*COMMAND, "courier")),
        }
        for n in range(1, dispatchers + 1):
            programs[f"dispatcher-{n}"] = self._role(f"dispatcher-{n}", (*COMMAND, "dispatcher"))
        for n in range(1, workers_ + 1):
            programs[f"worker-{n}"] = self._role(f"worker-{n}", WORKER)
        return programs

    def _role(self, name: str, argv: tuple[str, ...]) -> Callable[[], Program]:
        environment = self._environment
        if name in self._clocks_s:
            environment = environment | {clock.VARIABLE: str(self._clocks_s[name])}
            if argv is not WORKER:
                argv = (sys.executable, "-m", "tests.chaos.clock", argv[-1])
        return lambda: Program(name=name, argv=argv, environment=environment)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.proxy)
        for name, actor in self.actors.items():
            actor.paused = name not in {"postgres", "redis"}
        self._supervisor.start()
        self._stack.callback(self._end)
        until(lambda: self.postgres.ready() and self.redis.ready())
        migrate(self.postgres.url)
        self.engine = create_engine(self.postgres.url, pool_size=4)
        self._stack.callback(self.engine.dispose)
        ensure_default(self.engine, KEY)
        self.database = FarmDatabase(self.engine)
        self.broker = redis.Redis.from_url(self.redis.url, decode_responses=True)
        self._stack.callback(self.broker.close)
        for actor in self.actors.values():
            actor.paused = False
        until(self.ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ready(self) -> bool:
        """Whether the API answers, all workers are registered, and a dispatcher leads."""
        expected = sum(name.startswith("worker") for name in self.actors)
        return (
            answers(self.api_port, "/readyz")()
            and workers.alive(self.engine) >= expected
            and any(a.logged("leader_elected") for n, a in self.actors.items() if "dispatcher" in n)
        )

    def sdk(self, **options: Any) -> Sdk:
        """A client of the farm."""
        return Sdk(self.url, KEY, **options)

    def logged(self, role: str, words: str) -> int:
        """How often these words occur in the logs of a role's processes."""
        return sum(a.logged(words) for name, a in self.actors.items() if name.startswith(role))

    def rss_bytes(self, name: str) -> int:
        """The resident memory of an actor's process."""
        pid = self.actors[name].pid
        return int(psutil.Process(pid).memory_info().rss) if pid else 0

    def _supervise(self) -> None:
        while not self._stop.wait(RESTART_POLL_S):
            for actor in self.actors.values():
                try:
                    actor.supervise()
                except Exception as error:  # noqa: BLE001 - the next round tries again
                    log.warning("actor_not_started", actor=actor.name, cause=first_line(error))
        self._end_all()

    def _end_all(self) -> None:
        """End all processes: first the roles, at once, and then the servers in order."""
        for name, actor in self.actors.items():
            actor.paused = True
            actor.signal(signal.SIGCONT)
            if name not in {"postgres", "redis"}:
                actor.signal(signal.SIGKILL)
        for name in ("redis", "postgres"):
            self.actors[name].signal(signal.SIGINT)
        give_up_at = time.monotonic() + 20

        def all_ended() -> bool:
            for actor in self.actors.values():
                actor.supervise()
                if time.monotonic() > give_up_at:
                    actor.signal(signal.SIGKILL)
            return not any(actor.pid for actor in self.actors.values())

        until(all_ended)

    def _end(self) -> None:
        self._stop.set()
        self._supervisor.join()


def state_of(pid: int) -> str:
    """The state of a process in /proc (see proc(5)): `T` is stopped; `X` if it does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def kill(pid: int) -> None:
    """End a process at once."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
