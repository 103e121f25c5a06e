"""R4: connections to Redis are half-open for 60 s, frozen for 30 s, and reset for 5 s."""

from __future__ import annotations

import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from tests.chaos.faults import Faults
from tests.chaos.load import Load, finish, judge
from tests.chaos.proxy import Mode
from tests.chaos.report import Verdict
from tests.chaos.rig import Rig
from tests.waiting import until

RESUME_S = 15.0
CUTS = ((Mode.HALF_OPEN, 60.0), (Mode.FREEZE, 30.0), (Mode.RESET, 5.0))


def run(share: float = 1.0, rate: float = 10.0) -> Verdict:
    """Apply each cut for `share` of its time, while submissions go on."""
    verdict = Verdict("R4", "connections to Redis half-open, frozen and reset")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder)) as rig:
        faults = Faults(rig, 4)
        ids: list[str] = []
        for mode, lasts_s in CUTS:
            count = int(lasts_s * share * rate) + 50
            load = Load(rig, [f"{mode} {n}" for n in range(count)], threads=2, rate=rate)
            submitting = threading.Thread(target=load.run)
            submitting.start()
            until(partial(len, load.accepted))
            faults.cut(mode, lasts_s * share)
            faults.settle()
            began = time.monotonic()
            accepted = list(load.accepted.values())
            finish(rig, accepted, 120)
            resumed_s = time.monotonic() - began
            verdict.most(f"{mode}: seconds until the backlog was done", resumed_s, RESUME_S)
            submitting.join()
            verdict.equal(f"{mode}: failed submissions", len(load.refused), 0)
            ids += load.accepted.values()
        finish(rig, ids, 120)
        verdict.faults = faults.fired
        verdict.equal("cuts that hurt a connection", len(faults.fired), len(CUTS))
        judge(verdict, rig, ids)
    return verdict.end()
