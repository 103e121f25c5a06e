"""R10: watchdog. The device hangs while its process lives and sends heartbeats."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.chaos.load import Load, finish, judge
from tests.chaos.report import Fired, Verdict
from tests.chaos.rig import QUICK, Rig

GRACE_S = 5.0
ALLOWED_S = (
    float(QUICK["RENDERFARM_LEASE_S"]) + float(QUICK["RENDERFARM_WATCHDOG_S"]) + GRACE_S
)  # fmt: skip


def run(hangs: int = 20) -> Verdict:
    """Submit jobs that hang the device at their first attempt, among other jobs."""
    verdict = Verdict("R10", f"the device hangs while the process lives, {hangs} times")
    settings = {"RENDERFARM_MAX_CRASHES": "100"}  # a job may be in a batch with several hangs
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder), settings=settings) as rig:
        ids: list[str] = []
        for n in range(hangs):
            load = Load(rig, ["hang", *[f"neighbour {n}.{m}" for m in range(8)]], threads=1)
            load.run()
            ids += load.accepted.values()
            finish(rig, list(load.accepted.values()), 120)
        rescues = rig.database.rows(
            """SELECT extract(epoch FROM rescued.at - began.at)::float AS after_s
               FROM events rescued JOIN events began ON began.job_id = rescued.job_id
                AND began.attempt = rescued.attempt AND began.type = 'running'
               JOIN jobs ON jobs.id = rescued.job_id
               WHERE rescued.type = 'rescued' AND rescued.attempt = 1
                 AND request->>'prompt' = 'hang'"""
        )
        verdict.faults = [
            Fired(0.0, "hang", "worker", f"rescued after {row['after_s']:.1f} s") for row in rescues
        ]
        verdict.equal("hangs after which the job was rescued", len(rescues), hangs)
        longest_s = max((row["after_s"] for row in rescues), default=float("inf"))
        verdict.most("longest time until a rescue, in s", longest_s, ALLOWED_S)
        verdict.least("workers that detected the hang", rig.logged("worker", "device_stuck"), 1)
        judge(verdict, rig, ids)
    return verdict.end()
