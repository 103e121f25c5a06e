"""R11: a job that ends every process it is rendered in, in a batch of fifty."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.chaos.load import MODEL, finish, judge
from tests.chaos.report import Fired, Verdict
from tests.chaos.rig import Rig

SLOTS = 50
WORKERS = 2
MATE_S = 0.5


def run(poisons: int = 5, innocents: int = 495) -> Verdict:
    """Poisoned jobs among innocent ones: those end well, and the poisoned fail alone."""
    verdict = Verdict("R11", f"{poisons} poisoned jobs among {innocents}, in batches of {SLOTS}")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder), slots=SLOTS) as rig:
        guilty: list[str] = []
        ids: list[str] = []
        for _ in range(poisons):
            share = innocents // poisons
            with rig.sdk() as sdk:
                mates = [{"prompt": f"slow {MATE_S}", "model": MODEL} for _ in range(share)]
                jobs = sdk.submit_many([*mates, {"prompt": "poison", "model": MODEL}])
            *mine, poison = [str(job.id) for job in jobs]
            guilty.append(poison)
            ids += mine
            finish(rig, [*ids, *guilty], 240)
        row = rig.database.rows(
            """SELECT count(*) FILTER (WHERE status = 'failed' AND error->>'code' = 'worker_lost')
                      AS failed, max(crashes) AS crashes, max(attempt) AS attempts
               FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))""",
            ids=guilty,
        )[0]
        worst = rig.database.rows(
            """SELECT max(crashes) AS crashes, count(*) FILTER (WHERE status = 'failed') AS failed,
                      count(*) FILTER (WHERE crashes > 0) AS hit
               FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))""",
            ids=ids,
        )[0]
        verdict.faults = [
            Fired(0.0, "poison", name, "the worker ended by SIGKILL in a step")
            for name, actor in rig.actors.items()
            for code in actor.endings
            if code == -9 and name.startswith("worker")
        ]
        verdict.equal("workers ended by poison", len(verdict.faults), poisons * 3)
        verdict.equal("poisoned jobs that failed as worker_lost", row["failed"], poisons)
        verdict.most("crashes of a poisoned job, all but the first alone", row["crashes"], 3)
        verdict.equal("innocent jobs that failed", worst["failed"], 0)
        verdict.least("innocent jobs that were in a batch with poison", worst["hit"], poisons)
        verdict.most("crashes of an innocent job", worst["crashes"], 1)
        judge(verdict, rig, ids)
    return verdict.end()
