"""R3: Redis loses all its data and is killed, with a long backlog, while submissions go on."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.faults import Faults
from tests.chaos.load import Load, finish, judge
from tests.chaos.report import Verdict
from tests.chaos.rig import Rig
from tests.waiting import until

if TYPE_CHECKING:
    from renderfarm import JobRequest

AWAY_S = 10.0
ACCEPT_P99_S = 0.25
RESUME_S = 5.0


def run(jobs: int = 5000, meanwhile: int = 400) -> Verdict:
    """FLUSHALL, then SIGKILL, then ten seconds without Redis."""
    verdict = Verdict("R3", f"Redis loses its data and is killed, with {jobs} jobs queued")
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder)) as rig:
        faults = Faults(rig, 3)
        with rig.sdk() as sdk:
            asked: list[JobRequest] = [{"prompt": f"job {n}", "model": "null"} for n in range(jobs)]
            ids = [str(job.id) for job in sdk.submit_many(asked)]
        redis = rig.actors["redis"]
        redis.paused = True
        faults.do("flushall")
        faults.kill(redis)
        load = Load(rig, [f"late {n}" for n in range(meanwhile)], threads=2, rate=40)
        submitting = threading.Thread(target=load.run)
        submitting.start()
        threading.Event().wait(AWAY_S)
        before = _succeeded(rig)
        redis.paused = False
        until(rig.redis.ready)
        returned_at = time.monotonic()
        until(lambda: _succeeded(rig) > before)
        resumed_s = time.monotonic() - returned_at
        submitting.join()
        ids += load.accepted.values()
        finish(rig, ids, 600)
        took = sorted(load.took_s)
        verdict.faults = faults.fired
        verdict.equal("return code of Redis", redis.endings[-1], -signal.SIGKILL)
        verdict.equal("submissions refused", len(load.refused), 0)
        verdict.most(
            "p99 of accepting without Redis, seconds", took[int(len(took) * 0.99)], ACCEPT_P99_S
        )
        verdict.most("seconds from the return of Redis to the next success", resumed_s, RESUME_S)
        judge(verdict, rig, ids)
    return verdict.end()


def _succeeded(rig: Rig) -> int:
    query = "SELECT count(*) FROM jobs WHERE status = 'succeeded'"
    return int(rig.database.rows(query)[0]["count"])
