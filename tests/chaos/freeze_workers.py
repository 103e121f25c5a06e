"""R2: workers are frozen for two leases, again and again; what they say on waking must count nothing."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from tests.chaos.faults import Faults
from tests.chaos.load import Load, finish, judge
from tests.chaos.report import Verdict
from tests.chaos.rig import Rig
from tests.waiting import poll, until

LEASE_S = 1.5
WORKERS = 4
PATIENCE_S = 60.0
SETTINGS = {
    "RENDERFARM_LEASE_S": str(LEASE_S),
    "RENDERFARM_RENEW_S": "0.4",
    "RENDERFARM_SLOTS": "8",
    "RENDERFARM_HINT_AGAIN_S": "1",
    "RENDERFARM_MAX_CRASHES": "100",  # a job may be held by a frozen worker many times here
}


def run(freezes: int = 200, *, seed: int = 2, fenced: float = 0.5) -> Verdict:
    """Freeze a worker that holds jobs, and let it go on when they are long another's."""
    verdict = Verdict("R2", f"a worker frozen for two leases, {freezes} times")
    with (
        tempfile.TemporaryDirectory() as folder,
        Rig(Path(folder), workers_=WORKERS, settings=SETTINGS) as rig,
    ):
        faults = Faults(rig, seed)
        done = threading.Event()
        ids: list[str] = []
        feeding = threading.Thread(target=_feed, args=(rig, ids, done))
        feeding.start()
        each = freezes // WORKERS
        crew = [
            threading.Thread(target=_freeze_often, args=(faults, f"worker-{n + 1}", each))
            for n in range(WORKERS)
        ]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        done.set()
        feeding.join()
        faults.settle()
        finish(rig, ids, 120)
        rescued = rig.database.rows("SELECT count(*) FROM events WHERE type = 'rescued'")
        # The worker that woke last may not have tried to write yet.
        poll(lambda: _refused(rig) >= freezes * fenced, PATIENCE_S, every_s=0.2)
        refused = _refused(rig)
        verdict.faults = faults.fired
        verdict.least("freezes seen", len(faults.fired), each * WORKERS)
        verdict.least("attempts taken back", rescued[0]["count"], freezes * fenced)
        verdict.least("writes that the fence stopped", refused, freezes * fenced)
        judge(verdict, rig, ids)
    return verdict.end()


def _refused(rig: Rig) -> int:
    """How often a worker was told that an attempt was no longer its own."""
    return rig.logged("worker", "] fenced ") + rig.logged("worker", "] left ")


def _feed(rig: Rig, ids: list[str], done: threading.Event) -> None:
    """Keep enough jobs waiting that every worker holds some."""
    waiting = "SELECT count(*) FROM jobs WHERE status = 'queued'"
    while not done.is_set():
        if rig.database.rows(waiting)[0]["count"] < 8 * WORKERS:
            load = Load(rig, ["slow 0.3"] * 32, threads=2)
            load.run()
            ids.extend(load.accepted.values())
        done.wait(0.1)


def _freeze_often(faults: Faults, name: str, times: int) -> None:
    """Freeze one worker so many times, each time when it holds a job."""
    actor = faults.rig.actors[name]
    holds = "SELECT 1 FROM jobs WHERE status = 'running' AND worker_id LIKE :worker LIMIT 1"
    for _ in range(times):
        until(lambda: faults.rig.database.rows(holds, worker=f"%:{actor.pid}:%"))
        faults.freeze(actor, 2 * LEASE_S)
        faults.settle()
        assert actor.pid is not None, f"{name} did not outlive it"
