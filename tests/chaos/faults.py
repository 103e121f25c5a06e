"""Fault injection: each fault returns once it is observed; `Gremlin` injects them in a thread."""

from __future__ import annotations

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import redis
import structlog
from sqlalchemy.exc import SQLAlchemyError

from app import broker
from app.errors import first_line
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
    """Injects one fault at a time, and records each with the proof that it fired."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig = rig
        self.fired: list[Fired] = []
        self._random = random.Random(seed)  # noqa: S311 - a choice that is no secret
        self._began = time.monotonic()
        self._timers: list[threading.Timer] = []
        self._frozen: set[str] = set()

    def do(self, fault: str) -> None:
        """Inject a fault; returns once it is observed. A lasting fault ends by itself later."""
        kind, _, role = fault.partition(" ")
        if kind in {"kill", "freeze"}:
            actor = self._one_of(role)
            (self.kill if kind == "kill" else self.freeze)(actor)
        elif kind == "flushall":
            keys = until(self._flush)
            self._record(kind, "redis", f"{keys} keys deleted")
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
        """SIGKILL; observed when the kernel reports an end by that signal."""
        until(lambda: actor.pid)
        pid, ended = actor.pid, len(actor.endings)
        actor.signal(signal.SIGKILL)
        until(lambda: len(actor.endings) > ended)
        assert actor.endings[-1] == -signal.SIGKILL, f"{actor.name} ended by another cause"
        self._record("kill", actor.name, f"pid {pid} ended by SIGKILL")

    def freeze(self, actor: Actor, lasts_s: float = FREEZE_S) -> None:
        """SIGSTOP for `lasts_s`; observed when the kernel shows all of its processes stopped."""
        until(lambda: actor.pid)
        pids = actor.signal(signal.SIGSTOP)
        until(lambda: all(state_of(pid) in "TXZ" for pid in pids))
        stopped = [pid for pid in pids if state_of(pid) == "T"]
        self._frozen.add(actor.name)

        def thaw() -> None:
            self._frozen.discard(actor.name)
            actor.signal(signal.SIGCONT)

        self._later(lasts_s, thaw)
        self._record("freeze", actor.name, f"{len(stopped)} processes stopped for {lasts_s:g} s")

    def cut(self, mode: Mode, lasts_s: float) -> None:
        """Break the connections to Redis for `lasts_s`; observed by the number of broken ones."""
        before = self.rig.proxy.hurt[mode]
        self.rig.proxy.set(mode)
        self._later(lasts_s, lambda: self.rig.proxy.set(Mode.PASS))
        if hurt := poll(lambda: self.rig.proxy.hurt[mode] - before, lasts_s, every_s=0.05):
            self._record(str(mode), "connections to redis", f"{hurt} of them for {lasts_s:g} s")

    def _flush(self) -> int:
        """Empty Redis; returns the number of keys deleted, 0 if Redis does not answer."""
        try:
            keys = int(self.rig.broker.dbsize())
            self.rig.broker.flushall()
        except redis.RedisError:
            return 0
        return keys

    def duplicate(self) -> None:
        """Send hints again for random jobs, of any status."""
        query = "SELECT id, attempt, request FROM jobs ORDER BY random() LIMIT :n"
        try:
            rows = self.rig.database.rows(query, n=DUPLICATES)
            celery = broker.create_app(self.rig.redis.url)
            for row in rows:
                broker.publish(celery, row["id"], row["attempt"], row["request"])
            celery.close()
        except (SQLAlchemyError, redis.RedisError, OSError) as error:
            log.info("hints_not_duplicated", cause=first_line(error))
        else:
            self._record("duplicate", "redis", f"{len(rows)} hints sent again")

    def settle(self) -> None:
        """Wait until every lasting fault is over."""
        for timer in self._timers:
            timer.join()

    def _one_of(self, role: str) -> Actor:
        active = [
            actor
            for name, actor in self.rig.actors.items()
            if name.startswith(role) and name not in self._frozen
        ]
        all_of_role = [a for n, a in self.rig.actors.items() if n.startswith(role)]
        return self._random.choice(active or all_of_role)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(delay_s, action)
        timer.start()
        self._timers.append(timer)

    def _record(self, kind: str, target: str, proof: str) -> None:
        fired = Fired(round(time.monotonic() - self._began, 1), kind, target, proof)
        self.fired.append(fired)
        log.info("fault_fired", kind=kind, target=target, proof=proof)


class Gremlin:
    """Injects a fault every `every_s`, in rounds: each round has every fault of `deck` once."""

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
