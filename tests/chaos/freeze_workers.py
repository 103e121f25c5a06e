"""R2: workers are frozen for two leases, many times; fencing rejects their late writes."""

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
    "RENDERFARM_MAX_CRASHES": "100",  # a job may be in a frozen worker many times
}


def run(freezes: int = 200, *, seed: int = 2, fenced: float = 0.5) -> Verdict:
    """Freeze a worker that holds jobs, and resume it when other workers have its jobs."""
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
        freezing = [
            threading.Thread(target=_freeze_often, args=(faults, f"worker-{n + 1}", each))
            for n in range(WORKERS)
        ]
        for thread in freezing:
            thread.start()
        for thread in freezing:
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
        verdict.least("freezes", len(faults.fired), each * WORKERS)
        verdict.least("rescued attempts", rescued[0]["count"], freezes * fenced)
        verdict.least("writes that fencing rejected", refused, freezes * fenced)
        judge(verdict, rig, ids)
    return verdict.end()


def _refused(rig: Rig) -> int:
    """How often the store rejected a worker's write for an attempt that it no longer held."""
    superseded = rig.logged("worker", "] attempt_superseded ")
    return superseded + rig.logged("worker", "] attempt_cancelled ")


def _feed(rig: Rig, ids: list[str], done: threading.Event) -> None:
    """Keep enough jobs queued that every worker holds some."""
    queued = "SELECT count(*) FROM jobs WHERE status = 'queued'"
    while not done.is_set():
        if rig.database.rows(queued)[0]["count"] < 8 * WORKERS:
            load = Load(rig, ["slow 0.3"] * 32, threads=2)
            load.run()
            ids.extend(load.accepted.values())
        done.wait(0.1)


def _freeze_often(faults: Faults, name: str, times: int) -> None:
    """Freeze one worker `times` times, each time while it holds a job."""
    actor = faults.rig.actors[name]
    holds = "SELECT 1 FROM jobs WHERE status = 'running' AND worker_id LIKE :worker LIMIT 1"
    for _ in range(times):
        until(lambda: faults.rig.database.rows(holds, worker=f"%:{actor.pid}:%"))
        faults.freeze(actor, 2 * LEASE_S)
        faults.settle()
        assert actor.pid is not None, f"{name} did not survive the freeze"
