"""R10: the device hangs while its process lives and says so."""

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
    """Jobs that hang the device at their first attempt, among others."""
    verdict = Verdict("R10", f"the device hangs and the process lives, {hangs} times")
    settings = {"RENDERFARM_MAX_CRASHES": "100"}  # a job may be the neighbour of several hangs
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder), settings=settings) as rig:
        ids = []
        for n in range(hangs):
            load = Load(rig, ["hang", *[f"neighbour {n}.{m}" for m in range(8)]], threads=1)
            load.run()
            ids += load.accepted.values()
            finish(rig, list(load.accepted.values()), 120)
        back = rig.database.rows(
            """SELECT extract(epoch FROM taken.at - began.at)::float AS back_s
               FROM events taken JOIN events began ON began.job_id = taken.job_id
                AND began.attempt = taken.attempt AND began.type = 'running'
               JOIN jobs ON jobs.id = taken.job_id
               WHERE taken.type = 'rescued' AND taken.attempt = 1
                 AND request->>'prompt' = 'hang'"""
        )
        verdict.faults = [
            Fired(0.0, "hang", "worker", f"back after {r['back_s']:.1f} s") for r in back
        ]
        verdict.equal("hangs after which the job was taken back", len(back), hangs)
        longest = max((row["back_s"] for row in back), default=float("inf"))
        verdict.most("longest until a hung job was back", longest, ALLOWED_S)
        verdict.least("workers that saw the hang", rig.logged("worker", "device stuck"), 1)
        judge(verdict, rig, ids)
    return verdict.end()
