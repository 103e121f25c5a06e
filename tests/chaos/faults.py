"""Faults, each of which is seen to have happened, and the thread that lets them happen."""

from __future__ import annotations

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app import broker
from tests.chaos.proxy import Mode
from tests.chaos.report import Fired
from tests.chaos.rig import state_of
from tests.waiting import poll, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.rig import Actor, Rig

log = structlog.get_logger("tests.chaos")
FREEZE_S = 9.0
CUT_S = 3.0
STALL_S = 5.0
DUPLICATES = 50
PROCESSES = ("worker", "redis", "postgres", "api", "dispatcher", "courier")
NETWORK = ("half-open", "stall", "reset", "flushall", "duplicate")
ALL = (
    *(f"kill {role}" for role in PROCESSES),
    *(f"freeze {role}" for role in PROCESSES),
    *NETWORK,
)


class Faults:
    """Does one fault at a time, when asked, and notes it with its proof."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig = rig
        self.fired: list[Fired] = []
        self._random = random.Random(seed)  # noqa: S311 - which process dies is no secret
        self._began = time.monotonic()
        self._timers: list[threading.Timer] = []
        self._frozen: set[str] = set()

    def do(self, fault: str) -> None:
        """Let it happen. Returns once it is seen to have; what lasts ends by itself later."""
        kind, _, role = fault.partition(" ")
        if kind in {"kill", "freeze"}:
            actor = self._one_of(role)
            (self.kill if kind == "kill" else self.freeze)(actor)
        elif kind == "flushall":
            keys = until(self._flush)
            self._note(kind, "redis", f"{keys} keys were there")
        elif kind == "duplicate":
            self.duplicate()
        else:
            mode, lasts_s = {
                "half-open": (Mode.HALF_OPEN, CUT_S),
                "stall": (Mode.FREEZE, STALL_S),
                "reset": (Mode.RESET, 0.2),
            }[kind]
            self.cut(mode, lasts_s)

    def kill(self, actor: Actor) -> None:
        """SIGKILL; seen when the kernel has reported its end by that signal."""
        until(lambda: actor.pid)
        pid, ended = actor.pid, len(actor.endings)
        actor.signal(signal.SIGKILL)
        until(lambda: len(actor.endings) > ended)
        assert actor.endings[-1] == -signal.SIGKILL, f"{actor.name} ended by itself"
        self._note("kill", actor.name, f"pid {pid} ended by SIGKILL")

    def freeze(self, actor: Actor, lasts_s: float = FREEZE_S) -> None:
        """SIGSTOP for a while; seen when the kernel has every process of it stopped."""
        until(lambda: actor.pid)
        hit = actor.signal(signal.SIGSTOP)
        until(lambda: all(state_of(pid) in "TXZ" for pid in hit))
        stopped = [pid for pid in hit if state_of(pid) == "T"]
        self._frozen.add(actor.name)

        def go_on() -> None:
            self._frozen.discard(actor.name)
            actor.signal(signal.SIGCONT)

        self._later(lasts_s, go_on)
        self._note("freeze", actor.name, f"{len(stopped)} processes stopped for {lasts_s:g} s")

    def cut(self, mode: Mode, lasts_s: float) -> None:
        """Have the way to Redis fail for a while; seen by the connections that it hurt."""
        before = self.rig.proxy.hurt[mode]
        self.rig.proxy.set(mode)
        self._later(lasts_s, lambda: self.rig.proxy.set(Mode.PASS))
        if hurt := poll(lambda: self.rig.proxy.hurt[mode] - before, lasts_s, every_s=0.05):
            self._note(str(mode), "way to redis", f"{hurt} connections for {lasts_s:g} s")

    def _flush(self) -> int:
        """Empty Redis; how many keys were there, 0 if it is away just now."""
        try:
            keys = int(self.rig.broker.dbsize())  # type: ignore[arg-type]
            self.rig.broker.flushall()
        except broker.redis.RedisError:
            return 0
        return keys

    def duplicate(self) -> None:
        """Hint jobs again that were hinted, run or have ended."""
        query = "SELECT id, attempt, request FROM jobs ORDER BY random() LIMIT :n"
        try:
            rows = self.rig.database.rows(query, n=DUPLICATES)
            celery = broker.create_app(self.rig.redis.url)
            for row in rows:
                broker.publish(celery, row["id"], row["attempt"], row["request"])
            celery.close()
        except (SQLAlchemyError, *_AWAY) as error:
            log.info("no duplicates", cause=str(error).partition("\n")[0])
        else:
            self._note("duplicate", "redis", f"{len(rows)} hints sent again")

    def settle(self) -> None:
        """Wait until everything that lasts is over."""
        for timer in self._timers:
            timer.join()

    def _one_of(self, role: str) -> Actor:
        actors = [
            actor
            for name, actor in self.rig.actors.items()
            if name.startswith(role) and name not in self._frozen
        ]
        everyone = [a for n, a in self.rig.actors.items() if n.startswith(role)]
        return self._random.choice(actors or everyone)

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, what)
        timer.start()
        self._timers.append(timer)

    def _note(self, kind: str, target: str, proof: str) -> None:
        fired = Fired(round(time.monotonic() - self._began, 1), kind, target, proof)
        self.fired.append(fired)
        log.info("fault", kind=kind, target=target, proof=proof)


class Gremlin:
    """Lets a fault of the deck happen every `every_s`; all of the deck before any comes twice."""

    def __init__(self, faults: Faults, deck: Sequence[str], every_s: float, seed: int) -> None:
        self._faults = faults
        self._deck = deck
        self._every_s = every_s
        self._random = random.Random(seed)  # noqa: S311
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1, "gremlin")

    def __enter__(self) -> Self:
        self._running = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._running.result()
        self._pool.shutdown()
        self._faults.settle()

    def _run(self) -> None:
        while True:
            for fault in self._random.sample(self._deck, len(self._deck)):
                if self._stop.wait(self._every_s):
                    return
                self._faults.do(fault)


_AWAY = (broker.redis.RedisError, OSError)
