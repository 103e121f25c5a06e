"""R11: poison jobs, which crash every worker that renders them, in batches of fifty."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.load import MODEL, finish, judge
from tests.chaos.report import Fired, Verdict
from tests.chaos.rig import Rig

if TYPE_CHECKING:
    from renderfarm import JobRequest

SLOTS = 50
WORKERS = 2
INNOCENT_S = 0.5
"""Seconds that an innocent job takes."""


def run(poisons: int = 5, innocents: int = 495) -> Verdict:
    """Submit poison jobs among others: the others succeed, and only the poison jobs fail."""
    verdict = Verdict("R11", f"{poisons} poison jobs among {innocents}, in batches of {SLOTS}")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder), slots=SLOTS) as rig:
        poison_ids: list[str] = []
        ids: list[str] = []
        for _ in range(poisons):
            *innocent_ids, poison_id = _submit_batch(rig, innocents // poisons)
            poison_ids.append(poison_id)
            ids += innocent_ids
            finish(rig, [*ids, *poison_ids], 240)
        poison = rig.database.rows(
            """SELECT count(*) FILTER (WHERE status = 'failed' AND error->>'code' = 'worker_lost')
                      AS failed, max(crashes) AS crashes, max(attempt) AS attempts
               FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))""",
            ids=poison_ids,
        )[0]
        innocent = rig.database.rows(
            """SELECT max(crashes) AS crashes, count(*) FILTER (WHERE status = 'failed') AS failed,
                      count(*) FILTER (WHERE crashes > 0) AS hit
               FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))""",
            ids=ids,
        )[0]
        verdict.faults = [
            Fired(0.0, "poison", name, "the worker ended by SIGKILL during a step")
            for name, actor in rig.actors.items()
            for code in actor.endings
            if code == -9 and name.startswith("worker")
        ]
        verdict.equal("workers ended by poison", len(verdict.faults), poisons * 3)
        verdict.equal("poison jobs that failed with worker_lost", poison["failed"], poisons)
        verdict.most("most crashes of a poison job", poison["crashes"], 3)
        verdict.equal("innocent jobs that failed", innocent["failed"], 0)
        verdict.least("innocent jobs that were in a batch with poison", innocent["hit"], poisons)
        verdict.most("most crashes of an innocent job", innocent["crashes"], 1)
        judge(verdict, rig, ids)
    return verdict.end()


def _submit_batch(rig: Rig, innocents: int) -> list[str]:
    """Submit innocent jobs and then one poison job; returns their ids in this order."""
    batch: list[JobRequest] = [
        {"prompt": f"slow {INNOCENT_S}", "model": MODEL} for _ in range(innocents)
    ]
    batch.append({"prompt": "poison", "model": MODEL})
    with rig.sdk() as sdk:
        return [str(job.id) for job in sdk.submit_many(batch)]
