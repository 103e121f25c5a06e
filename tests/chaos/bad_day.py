"""R18: soak test. Half an hour of submissions with a random fault every ten seconds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.chaos.faults import ALL, Faults, Gremlin
from tests.chaos.load import Load, finish, judge
from tests.chaos.report import Verdict
from tests.chaos.rig import Rig

MIN_ANSWERED = 0.999


def run(minutes: float = 30.0, every_s: float = 10.0, rate: float = 10.0) -> Verdict:
    """Inject a fault every `every_s`, while the SDK submits with its default retries."""
    verdict = Verdict("R18", f"{minutes:g} minutes with a fault every {every_s:g} s")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder)) as rig:
        faults = Faults(rig, 18)
        asked = int(minutes * 60 * rate)
        load = Load(rig, [f"job {n}" for n in range(asked)], threads=8, rate=rate, retries=6)
        with Gremlin(faults, ALL, every_s, 18):
            load.run()
        ids = list(load.accepted.values())
        finish(rig, ids, 300)
        verdict.faults = faults.fired
        verdict.least("faults that fired", len(faults.fired), minutes * 60 / every_s * 0.7)
        verdict.least("share of submissions answered", len(ids) / asked, MIN_ANSWERED)
        judge(verdict, rig, ids)
    return verdict.end()
