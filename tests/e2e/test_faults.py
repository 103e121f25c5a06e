"""Faults: a farm whose parts are killed, stopped and started again."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from app.jobs.audit import audit
from renderfarm.types import Status
from tests.e2e.farms import eventually, running

if TYPE_CHECKING:
    from pathlib import Path

    from renderfarm import JobRequest

PROMPT = "a red circle on a blue background"
SMALL: JobRequest = {"prompt": PROMPT, "width": 64, "height": 64}


def test_a_killed_worker_loses_no_job(tmp_path: Path) -> None:
    """200 jobs survive a worker that is killed while it renders.

    Each ends once, and no lease remains.
    """
    with (
        running(
            tmp_path,
            "--models=scenes",
            "--slots=16",
            RENDERFARM_LEASE_S="3",
            RENDERFARM_RENEW_S="1",
        ) as farm,
        farm.sdk() as sdk,
    ):
        jobs = sdk.submit_many(
            [{**SMALL, "num_inference_steps": 2 + n % 3, "seed": n} for n in range(200)]
        )
        eventually(
            lambda: sum(j.status.final for j in sdk.list(limit=200)) > 20, 60, "some are done"
        )
        worker = farm.access["processes"]["worker-1"]
        os.kill(worker, signal.SIGKILL)
        ended = list(sdk.as_completed(jobs, timeout_s=240))
        assert len({job.id for job in ended}) == 200
        assert {job.status for job in ended} == {Status.SUCCEEDED}
        assert any(job.refresh().snapshot.attempt == 2 for job in ended), "the kill hit no job"
        assert farm.access["processes"]["worker-1"] != worker
        assert audit(farm.engine()) == []


def test_a_stopped_farm_finds_its_jobs_again(tmp_path: Path) -> None:
    """Ctrl-C stops the farm cleanly; the next start has the same jobs, pictures and key."""
    with running(tmp_path, "--models=null") as farm:
        access = farm.access
        with farm.sdk() as sdk:
            job = sdk.submit(PROMPT).wait(30)
        assert farm.stop() == 0
        assert not (farm.directory / "farm.json").exists()
    with running(tmp_path, "--models=null") as farm, farm.sdk() as sdk:
        assert farm.access["api_key"] == access["api_key"]
        assert sdk.job(job.id).images[0].bytes().startswith(b"\x89PNG")
    leftover = [pid for pid in access["processes"].values() if _lives(pid)]
    assert leftover == []


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
