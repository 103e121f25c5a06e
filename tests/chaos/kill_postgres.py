"""R7: durability. Postgres is killed many times under submissions; no accepted job may be lost."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from tests.chaos.faults import Faults
from tests.chaos.load import Load, finish, judge
from tests.chaos.report import Verdict
from tests.chaos.rig import Rig

RATE = 50.0
MIN_ANSWERED = 0.999


def run(kills: int = 20, every_s: float = 4.0) -> Verdict:
    """Kill Postgres every `every_s`, while the SDK submits with its default retries."""
    verdict = Verdict("R7", f"Postgres killed {kills} times under {RATE:g} submissions a second")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder)) as rig:
        faults = Faults(rig, 7)
        asked = int(kills * every_s * RATE)
        load = Load(rig, [f"job {n}" for n in range(asked)], threads=8, rate=RATE, retries=6)
        submitting = threading.Thread(target=load.run)
        submitting.start()
        for _ in range(kills):
            threading.Event().wait(every_s)
            faults.do("kill postgres")
        submitting.join()
        ids = list(load.accepted.values())
        finish(rig, ids, 300)
        verdict.faults = faults.fired
        verdict.equal("kills of Postgres", len(faults.fired), kills)
        verdict.least("share of submissions answered", len(ids) / asked, MIN_ANSWERED)
        judge(verdict, rig, ids)
    return verdict.end()
