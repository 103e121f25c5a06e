"""A worker's slot with a real database, a real object store and a scripted engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy

from app.database import driver_url
from app.ids import new_id
from app.jobs.store import Store
from tests.integration.slot_bench import Bench, lost, picture, too_large
from tests.waiting import PATIENCE_S, until
from workers.engine.request import DeviceLost
from workers.errors import RenderFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.records import FarmDatabase


@pytest.fixture
def bench(farm: FarmDatabase, tmp_path: Path) -> Iterator[Bench]:
    """A slot; after the test the database holds every invariant."""
    slot_bench = Bench(farm, tmp_path)
    yield slot_bench
    slot_bench.close()
    assert farm.breaches() == []


def test_a_job_is_claimed_rendered_stored_and_finished(farm: FarmDatabase, bench: Bench) -> None:
    """The object is stored under its key, and the job has its costs."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    bench.device.end(f"{job_id}.1", picture)
    assert answer.result(PATIENCE_S).startswith("succeeded: 1 image")
    (image,) = farm.rows("SELECT * FROM images")
    assert image["key"] == f"{farm.tenant.id}/{job_id}/1/0.png"
    assert (bench.objects / image["key"]).stat().st_size == image["bytes"]
    row = farm.job(job_id)
    assert (row["gpu_seconds"], row["cost_usd"]) == (3.6, pytest.approx(0.01))
    assert bench.renewer.count == 0


def test_a_second_hint_renders_nothing(farm: FarmDatabase, bench: Bench) -> None:
    """A hint for a running, ended or unknown job is dropped."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    assert bench.slot.render(job_id).startswith("not due")
    assert bench.slot.render(new_id()).startswith("not due")
    bench.device.end(f"{job_id}.1", picture)
    answer.result(PATIENCE_S)
    assert bench.slot.render(job_id).startswith("not due")
    assert farm.events(job_id) == ["queued", "running", "succeeded"]


def test_the_picture_of_a_cancelled_job_is_dropped(farm: FarmDatabase, bench: Bench) -> None:
    """A job that is cancelled while it renders stays cancelled and gets no images."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    farm.store.cancel(job_id, farm.tenant.id)
    bench.device.end(f"{job_id}.1", picture)
    assert answer.result(PATIENCE_S).startswith("dropped")
    assert farm.state(job_id) == ("cancelled", 1)
    assert farm.rows("SELECT * FROM images") == []


def test_a_cancelled_job_leaves_the_engine(farm: FarmDatabase, bench: Bench) -> None:
    """The next renewal removes it from the engine and frees the slot; the job stays cancelled."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    farm.store.cancel(job_id, farm.tenant.id)
    bench.renew()
    assert answer.result(PATIENCE_S).startswith("cancelled")
    assert farm.events(job_id) == ["queued", "running", "cancelled"]


def test_a_worker_may_claim_a_lost_job_again(farm: FarmDatabase, bench: Bench) -> None:
    """The next attempt is exclusive: it is claimed when the lost one has left the engine."""
    job_id = farm.queued()
    old = bench.begin(job_id)
    farm.lose(job_id)
    farm.store.rescue(3)
    new = bench.threads.submit(bench.slot.render, job_id)
    until(lambda: bench.slot.process_lock._suspects)
    assert farm.state(job_id) == ("queued", 1)
    bench.renew()
    assert old.result(PATIENCE_S).startswith("cancelled")
    until(lambda: f"{job_id}.2" in bench.device.jobs)
    bench.device.end(f"{job_id}.2", picture)
    assert new.result(PATIENCE_S).startswith("succeeded")
    assert farm.state(job_id) == ("succeeded", 2)


def test_a_suspect_is_exclusive_in_its_worker(farm: FarmDatabase, bench: Bench) -> None:
    """A job that lost a worker waits for running jobs, and no other is claimed while it runs."""
    suspect, first, later = farm.claimed().id, farm.queued(), farm.queued()
    farm.lose(suspect)
    farm.store.rescue(3)
    before = bench.begin(first)
    exclusive = bench.threads.submit(bench.slot.render, suspect)
    until(lambda: bench.slot.process_lock._suspects)
    after = bench.threads.submit(bench.slot.render, later)
    assert farm.state(suspect) == ("queued", 1)
    bench.device.end(f"{first}.1", picture)
    assert before.result(PATIENCE_S).startswith("succeeded")
    until(lambda: f"{suspect}.2" in bench.device.jobs)
    assert farm.state(later) == ("queued", 0)
    assert list(bench.device.jobs) == [f"{suspect}.2"]
    bench.device.end(f"{suspect}.2", picture)
    assert exclusive.result(PATIENCE_S).startswith("succeeded")
    until(lambda: f"{later}.1" in bench.device.jobs)
    bench.device.end(f"{later}.1", picture)
    assert after.result(PATIENCE_S).startswith("succeeded")


def test_a_lost_device_leaves_its_jobs_to_the_reaper(farm: FarmDatabase, bench: Bench) -> None:
    """The reaper can take its jobs at once, as from a lost worker; no job is claimed later."""
    one, other = farm.queued(), farm.queued()
    answers = [bench.begin(one), bench.begin(other)]
    bench.device.end(f"{one}.1", lost)
    for answer in answers:
        with pytest.raises(DeviceLost):
            answer.result(PATIENCE_S)
    assert set(farm.store.rescue(3)) == {one, other}
    for job_id in (one, other):
        assert farm.events(job_id) == ["queued", "running", "rescued"]
        assert farm.job(job_id)["crashes"] == 1
    assert bench.slot.render(one).startswith("not claimed")
    assert farm.state(one) == ("queued", 1)


def test_a_job_without_memory_is_tried_again(farm: FarmDatabase, bench: Bench) -> None:
    """Other jobs may have used the memory, so the failure is transient."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    bench.device.end(f"{job_id}.1", too_large)
    assert answer.result(PATIENCE_S).startswith("retried: out_of_memory")
    assert farm.events(job_id) == ["queued", "running", "retried"]
    assert farm.job(job_id)["failures"] == 1


def test_a_stopping_worker_releases_its_jobs(farm: FarmDatabase, bench: Bench) -> None:
    """A job that runs when the worker stops is queued again at no cost."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    bench.runtime.stop()
    assert answer.result(PATIENCE_S).startswith("released")
    assert farm.job(job_id)["releases"] == 1


def test_a_drained_job_resumes_elsewhere(farm: FarmDatabase, bench: Bench, tmp_path: Path) -> None:
    """Its checkpoint is stored, reaches the next attempt, and is deleted after the success."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    bench.runtime.stop()
    assert answer.result(PATIENCE_S).startswith("released")
    key = f"{farm.tenant.id}/{job_id}/1/checkpoint.safetensors"
    assert (bench.objects / key).read_bytes() == f"{job_id}.1".encode()
    other = Bench(farm, tmp_path)
    answer = other.begin(job_id, attempt=2)
    assert other.device.checkpoints == {f"{job_id}.2": f"{job_id}.1".encode()}
    other.device.end(f"{job_id}.2", picture)
    assert answer.result(PATIENCE_S).startswith("succeeded")
    assert not (bench.objects / key).exists()
    other.close()


def test_a_missing_checkpoint_costs_only_its_steps(
    farm: FarmDatabase, bench: Bench, tmp_path: Path
) -> None:
    """Without the object the next attempt starts from step 0 and succeeds."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    bench.runtime.stop()
    answer.result(PATIENCE_S)
    (bench.objects / str(farm.job(job_id)["checkpoint"])).unlink()
    other = Bench(farm, tmp_path)
    answer = other.begin(job_id, attempt=2)
    assert other.device.checkpoints == {f"{job_id}.2": None}
    other.device.end(f"{job_id}.2", picture)
    assert answer.result(PATIENCE_S).startswith("succeeded")
    other.close()


def test_a_failed_render_fails_the_job_and_the_task(farm: FarmDatabase, bench: Bench) -> None:
    """The task raises the job's error, so Flower shows it as failed too."""
    job_id = farm.queued(image="data:image/png;base64,AAAA")
    with pytest.raises(RenderFailed, match="bad_image"):
        bench.slot.render(job_id)
    assert farm.state(job_id) == ("failed", 1)


def test_an_unexpected_error_costs_the_job_an_attempt(farm: FarmDatabase, bench: Bench) -> None:
    """An unexpected error is transient; after the last attempt the job has its code."""
    job_id = farm.queued(output_format="gif")
    for attempt in (1, 2):
        answer = bench.begin(job_id, attempt)
        bench.device.end(f"{job_id}.{attempt}", picture)
        assert answer.result(PATIENCE_S) == "retried: internal_error"
        farm.execute("UPDATE jobs SET run_after = now() WHERE id = :i", i=job_id)
    answer = bench.begin(job_id, 3)
    bench.device.end(f"{job_id}.3", picture)
    with pytest.raises(RenderFailed):
        answer.result(PATIENCE_S)
    assert farm.job(job_id)["error"]["code"] == "internal_error"


def test_an_ending_waits_for_a_database_connection(
    farm: FarmDatabase, bench: Bench, database_url: str
) -> None:
    """A success is written when the pool has a connection again; it does not count as a failure."""
    few = sqlalchemy.create_engine(
        driver_url(database_url), pool_size=1, max_overflow=0, pool_timeout=0.05
    )
    slot = replace(bench.slot, store=Store(few))
    job_id = farm.queued()
    answer = bench.threads.submit(slot.render, job_id)
    until(lambda: f"{job_id}.1" in bench.device.jobs)
    with few.connect() as blocking:
        bench.device.end(f"{job_id}.1", picture)
        until((bench.objects / f"{farm.tenant.id}/{job_id}/1/0.png").exists)
        with pytest.raises(TimeoutError):
            answer.result(0.3)
        blocking.close()
    assert answer.result(PATIENCE_S).startswith("succeeded")
    few.dispose()
    assert farm.job(job_id)["failures"] == 0
