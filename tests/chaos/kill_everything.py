"""R1: many jobs, a random fault every three seconds, and one submission in ten repeated."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.faults import ALL, Faults, Gremlin
from tests.chaos.load import Load, finish, judge
from tests.chaos.report import Verdict
from tests.chaos.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Sequence

ABOUT = "jobs under random faults, with duplicate submissions"


def run(
    jobs: int = 10_000,
    *,
    deck: Sequence[str] = ALL,
    every_s: float = 3.0,
    rate: float = 0.0,
    seed: int = 1,
    within_s: float = 360.0,
) -> Verdict:
    """Submit jobs while every part fails in turn; then wait for the jobs without faults."""
    verdict = Verdict("R1", f"{jobs} {ABOUT}")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder)) as rig:
        faults = Faults(rig, seed)
        load = Load(rig, [f"job {n}" for n in range(jobs)], twice=0.1, rate=rate, threads=16)
        with Gremlin(faults, deck, every_s, seed):
            load.run()
            finish(rig, list(load.accepted.values()), 2.0)
        ids = list(load.accepted.values())
        took_s = finish(rig, ids, within_s)
        verdict.faults = faults.fired
        verdict.equal("submissions without an answer", len(load.refused), 0)
        verdict.equal("repeats answered with another job", load.mismatches, 0)
        verdict.least("repeats", load.repeats, jobs * 0.07)
        verdict.least("faults that fired", len(faults.fired), min(5, len(deck)))
        verdict.most("seconds from the last answer to the last job's end", took_s, within_s)
        judge(verdict, rig, ids)
    verdict.end()
    verdict.most("seconds in all", verdict.took_s, within_s)
    return verdict
