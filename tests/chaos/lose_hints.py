"""R5: lost messages. A worker is killed after BRPOP has removed its hint from Redis."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.chaos.load import Load, finish, judge
from tests.chaos.report import Fired, Verdict
from tests.chaos.rig import Rig

WORKERS = 4


def run(times: int = 50, *, within_s: float = 300.0) -> Verdict:
    """Submit jobs whose first hint is lost together with the worker that took it."""
    verdict = Verdict("R5", f"a hint lost between Redis and the worker, {times} times")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder), workers_=WORKERS) as rig:
        load = Load(rig, ["hole"] * times)
        load.run()
        ids = list(load.accepted.values())
        took_s = finish(rig, ids, within_s)
        verdict.faults = [
            Fired(0.0, "kill", name, "ended by SIGKILL with a hint in memory")
            for name, actor in rig.actors.items()
            for code in actor.endings
            if code == -9 and name.startswith("worker")
        ]
        verdict.equal("workers killed with a hint in memory", len(verdict.faults), times)
        verdict.most("seconds to the last job's end", took_s, within_s)
        judge(verdict, rig, ids)
    return verdict.end()
