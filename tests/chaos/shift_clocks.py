"""R15: clock skew. The clocks of processes are wrong by ten minutes; only the database's counts."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.chaos.faults import Faults, Gremlin
from tests.chaos.load import Load, finish, judge
from tests.chaos.report import Fired, Verdict
from tests.chaos.rig import Rig

SHIFT_S = 600
CLOCKS_S = {
    "worker-1": SHIFT_S,
    "worker-2": -SHIFT_S,
    "dispatcher-1": -SHIFT_S,
    "dispatcher-2": SHIFT_S,
    "api": SHIFT_S,
}
DECK = ("kill worker", "kill dispatcher", "freeze worker", "flushall", "kill redis")


def run(jobs: int = 1000) -> Verdict:
    """Submit jobs under faults, while every clock except the database's is wrong."""
    verdict = Verdict("R15", f"{jobs} jobs, clocks wrong by {SHIFT_S} s in both directions")
    with (
        tempfile.TemporaryDirectory() as folder,
        Rig(Path(folder), clocks_s=CLOCKS_S) as rig,
    ):
        faults = Faults(rig, 15)
        load = Load(rig, [f"job {n}" for n in range(jobs)], rate=40)
        with Gremlin(faults, DECK, 3.0, 15):
            load.run()
        ids = list(load.accepted.values())
        finish(rig, ids, 300)
        shifted = sum(actor.logged("clock shifted") > 0 for actor in rig.actors.values())
        verdict.faults = [
            *faults.fired,
            Fired(0.0, "clock", "all", f"{shifted} processes logged it"),
        ]
        verdict.equal("processes whose clock is wrong", shifted, len(CLOCKS_S))
        verdict.equal("submissions without an answer", len(load.refused), 0)
        judge(verdict, rig, ids)
    return verdict.end()
