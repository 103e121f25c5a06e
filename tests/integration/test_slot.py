"""One slot of a worker, with a real database, a real store and a scripted device."""

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
    """A slot at work; afterwards the records hold every invariant."""
    made = Bench(farm, tmp_path)
    yield made
    made.close()
    assert farm.breaches() == []


def test_a_job_is_claimed_rendered_stored_and_finished(farm: FarmDatabase, bench: Bench) -> None:
    """The object lies where its key says before the job has succeeded, and the costs are told."""
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
    """A hint for a job that runs, has ended or never was is dropped."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    assert bench.slot.render(job_id).startswith("not due")
    assert bench.slot.render(new_id()).startswith("not due")
    bench.device.end(f"{job_id}.1", picture)
    answer.result(PATIENCE_S)
    assert bench.slot.render(job_id).startswith("not due")
    assert farm.events(job_id) == ["queued", "running", "succeeded"]


def test_a_picture_that_comes_too_late_is_dropped(farm: FarmDatabase, bench: Bench) -> None:
    """A job that was cancelled while it was rendered stays cancelled and gets no images."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    farm.store.cancel(job_id, farm.tenant.id)
    bench.device.end(f"{job_id}.1", picture)
    assert answer.result(PATIENCE_S).startswith("dropped")
    assert farm.state(job_id) == ("cancelled", 1)
    assert farm.rows("SELECT * FROM images") == []


def test_a_cancelled_job_leaves_the_device(farm: FarmDatabase, bench: Bench) -> None:
    """The next renewal learns of it and frees the slot; the job stays cancelled."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    farm.store.cancel(job_id, farm.tenant.id)
    bench.renew()
    assert answer.result(PATIENCE_S).startswith("cancelled")
    assert farm.events(job_id) == ["queued", "running", "cancelled"]


def test_a_worker_may_claim_again_what_it_lost(farm: FarmDatabase, bench: Bench) -> None:
    """The next attempt runs alone: it is claimed once the lost one has left the device."""
    job_id = farm.queued()
    old = bench.begin(job_id)
    farm.lose(job_id)
    farm.store.rescue(3)
    new = bench.threads.submit(bench.slot.render, job_id)
    until(lambda: bench.slot.process_lock._suspects)
    assert farm.state(job_id) == ("queued", 1)
    bench.renew()
    assert old.result(PATIENCE_S).startswith("cancelled")
    until(lambda: f"{job_id}.2" in bench.device.here)
    bench.device.end(f"{job_id}.2", picture)
    assert new.result(PATIENCE_S).startswith("succeeded")
    assert farm.state(job_id) == ("succeeded", 2)


def test_a_suspect_runs_alone_in_its_worker(farm: FarmDatabase, bench: Bench) -> None:
    """While a job that lost a worker is on the device, no other is claimed."""
    suspect, first, later = farm.claimed().id, farm.queued(), farm.queued()
    farm.lose(suspect)
    farm.store.rescue(3)
    before = bench.begin(first)
    alone = bench.threads.submit(bench.slot.render, suspect)
    until(lambda: bench.slot.process_lock._suspects)
    after = bench.threads.submit(bench.slot.render, later)
    assert farm.state(suspect) == ("queued", 1)
    bench.device.end(f"{first}.1", picture)
    assert before.result(PATIENCE_S).startswith("succeeded")
    until(lambda: f"{suspect}.2" in bench.device.here)
    assert farm.state(later) == ("queued", 0)
    assert list(bench.device.here) == [f"{suspect}.2"]
    bench.device.end(f"{suspect}.2", picture)
    assert alone.result(PATIENCE_S).startswith("succeeded")
    until(lambda: f"{later}.1" in bench.device.here)
    bench.device.end(f"{later}.1", picture)
    assert after.result(PATIENCE_S).startswith("succeeded")


def test_a_lost_device_leaves_its_jobs_to_the_reaper(farm: FarmDatabase, bench: Bench) -> None:
    """Each job on the lost device goes to the reaper at once, and no further one is claimed."""
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


def test_a_job_for_which_there_was_no_memory_is_tried_again(
    farm: FarmDatabase, bench: Bench
) -> None:
    """Others may have held it: the job waits a moment, and fails once its budget is spent."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    bench.device.end(f"{job_id}.1", too_large)
    assert answer.result(PATIENCE_S).startswith("retried: out_of_memory")
    assert farm.events(job_id) == ["queued", "running", "retried"]
    assert farm.job(job_id)["failures"] == 1


def test_stopping_hands_jobs_back(farm: FarmDatabase, bench: Bench) -> None:
    """What is on the device when the worker stops is queued again at no cost."""
    job_id = farm.queued()
    answer = bench.begin(job_id)
    bench.runtime.stop()
    assert answer.result(PATIENCE_S).startswith("released")
    assert farm.job(job_id)["releases"] == 1


def test_a_drained_job_goes_on_elsewhere(farm: FarmDatabase, bench: Bench, tmp_path: Path) -> None:
    """Its checkpoint is stored, comes to the next attempt, and is removed after the success."""
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


def test_a_checkpoint_that_is_gone_costs_only_its_steps(
    farm: FarmDatabase, bench: Bench, tmp_path: Path
) -> None:
    """Without the object the next attempt starts from the beginning and succeeds."""
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
    """The task ends with the job's error, so that Flower shows it as failed too."""
    job_id = farm.queued(image="data:image/png;base64,AAAA")
    with pytest.raises(RenderFailed, match="bad_image"):
        bench.slot.render(job_id)
    assert farm.state(job_id) == ("failed", 1)


def test_a_bug_of_ours_costs_the_job_an_attempt(farm: FarmDatabase, bench: Bench) -> None:
    """What nobody foresaw is tried again, and is named when the tries are spent."""
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


def test_a_picture_outlasts_a_database_without_a_connection_to_spare(
    farm: FarmDatabase, bench: Bench, database_url: str
) -> None:
    """What is drawn is written down once there is a connection; it is no failure of the job."""
    few = sqlalchemy.create_engine(
        driver_url(database_url), pool_size=1, max_overflow=0, pool_timeout=0.05
    )
    slot = replace(bench.slot, store=Store(few))
    job_id = farm.queued()
    answer = bench.threads.submit(slot.render, job_id)
    until(lambda: f"{job_id}.1" in bench.device.here)
    with few.connect() as taken:
        bench.device.end(f"{job_id}.1", picture)
        until((bench.objects / f"{farm.tenant.id}/{job_id}/1/0.png").exists)
        with pytest.raises(TimeoutError):
            answer.result(0.3)
        taken.close()
    assert answer.result(PATIENCE_S).startswith("succeeded")
    few.dispose()
    assert farm.job(job_id)["failures"] == 0
