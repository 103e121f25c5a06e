"""Real Celery workers in their own processes, with a real Postgres and a real Redis.

They render with the null engine, so everything except the device is as in production.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from app import broker
from app.config.repository import REPOSITORY
from app.dispatch import workers
from app.local.program import Program
from tests.integration.dispatching import dispatching, environment
from tests.integration.records import FarmDatabase
from tests.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Engine

    from app.local.redis import Redis

MODELS = """
[quick]
pipeline = "null"
[slow]
pipeline = "null"
delay_s = 0.5
[never]
pipeline = "null"
delay_s = 86400
[drained]
pipeline = "null"
delay_s = 86400
"""


class Plant:
    """A dispatcher, and workers that a test starts and ends."""

    def __init__(self, engine: Engine, environment: dict[str, str], folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self._environment = environment
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, serve: str, slots: int = 8) -> subprocess.Popen[bytes]:
        """Start a worker that serves these models; return when it is registered."""
        before = {row["id"] for row in workers.living(self.engine)}
        process = self.spawn(RENDERFARM_SERVE=serve, RENDERFARM_SLOTS=str(slots))
        until(lambda: {row["id"] for row in workers.living(self.engine)} - before)
        return process

    def spawn(self, **changes: str) -> subprocess.Popen[bytes]:
        """Start a worker's process, which dies with its parent."""
        environment = self._environment | changes
        argv = (sys.executable, "-m", "workers")
        program = Program(name="worker", argv=argv, environment=environment)
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                program.guarded_argv, env=program.variables, cwd=REPOSITORY, stdout=log, stderr=log
            )
        self._started.append(process)
        return process

    @property
    def log(self) -> str:
        """The workers' log."""
        return (self.folder / "worker.log").read_text()

    def end(self) -> None:
        """Kill all workers."""
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def plant(
    engine: Engine,
    database_url: str,
    redis_server: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Plant]:
    """A running dispatcher with short times, without a worker."""
    folder = tmp_path_factory.mktemp("plant")
    times = {"LEASE_S": "2", "RENEW_S": "0.4", "HINT_AGAIN_S": "1"}
    variables = environment(folder, MODELS, database_url, redis_server.url, SERVE="quick", **times)
    built = Plant(engine, {**os.environ, **variables}, folder)
    with dispatching(variables):
        yield built
        built.end()


@pytest.fixture(scope="module")
def crew(plant: Plant) -> Plant:
    """The plant with one worker that serves `quick` and `never`."""
    plant.start("quick,never")
    return plant


@pytest.fixture
def farm(engine: Engine) -> FarmDatabase:
    """The database, empty except for the workers."""
    database = FarmDatabase(engine)
    database.reset(workers=False)
    return database


def queue(farm: FarmDatabase, count: int, model: str) -> list[UUID]:
    """Submit `count` jobs at once."""
    return [s.row["id"] for s in farm.insert(*(farm.new(model=model) for _ in range(count)))]


def count(farm: FarmDatabase, status: str) -> int:
    """Count the jobs in this state."""
    jobs: int = farm.rows("SELECT count(*) FROM jobs WHERE status = :s", s=status)[0]["count"]
    return jobs


def test_two_hundred_jobs_at_once_succeed_exactly_once(farm: FarmDatabase, crew: Plant) -> None:
    """Each job is claimed, rendered and stored once, and no invariant is broken."""
    jobs = queue(farm, 200, "quick")
    until(lambda: count(farm, "succeeded") == 200)
    assert all(farm.events(job_id) == ["queued", "running", "succeeded"] for job_id in jobs)
    assert farm.breaches() == []
    stored = farm.rows("SELECT * FROM images")
    assert len(stored) == 200
    for image in stored:
        data = (crew.folder / "objects" / image["key"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (image["bytes"], image["sha256"])


def test_every_image_of_a_job_is_stored_with_its_seed(farm: FarmDatabase, crew: Plant) -> None:
    """Image n has the seed plus n and the requested format."""
    del crew
    job_id = farm.queued(model="quick", num_images=3, seed=40, output_format="webp", steps=3)
    until(lambda: farm.state(job_id)[0] == "succeeded")
    rows = farm.rows("SELECT * FROM images WHERE job_id = :i ORDER BY n", i=job_id)
    assert [row["seed"] for row in rows] == [40, 41, 42]
    assert {(row["content_type"], row["width"], row["height"]) for row in rows} == {
        ("image/webp", 64, 64)
    }
    assert farm.breaches() == []


def test_a_bad_picture_fails_its_job_at_once(farm: FarmDatabase, crew: Plant) -> None:
    """A fault of the request costs one attempt, and the error names the field."""
    del crew
    job_id = farm.queued(model="quick", image="data:image/png;base64,AAAA", strength=0.5)
    until(lambda: farm.state(job_id)[0] == "failed")
    row = farm.job(job_id)
    assert (row["attempt"], row["error"]["code"]) == (1, "bad_image")
    assert "image" in row["error"]["message"]
    assert farm.breaches() == []


def test_a_store_outage_costs_the_job_nothing(farm: FarmDatabase, crew: Plant) -> None:
    """The slot keeps its pictures, and stores them when the store is available again."""
    objects = crew.folder / "objects"
    objects.mkdir(exist_ok=True)
    blocked = objects / str(farm.tenant.id)
    blocked.write_text("a file where a folder should be")
    job_id = farm.queued(model="quick")
    until(lambda: f"{job_id}/1/0.png" in crew.log)
    blocked.unlink()
    until(lambda: farm.state(job_id)[0] == "succeeded")
    assert farm.job(job_id)["failures"] == 0
    assert farm.breaches() == []


def test_cancelling_frees_the_slot(farm: FarmDatabase, crew: Plant, redis_server: Redis) -> None:
    """A worker whose slots are full of endless jobs takes new jobs when those are cancelled."""
    del crew
    stuck = queue(farm, 8, "never")
    until(lambda: count(farm, "running") == 8)
    job_id = farm.queued(model="quick")
    carrier = broker.connect(redis_server.url)
    until(lambda: carrier.llen(broker.queue_of("quick")))  # its hint waits for a slot
    assert farm.state(job_id) == ("queued", 0)
    for held in stuck:
        farm.store.cancel(held, farm.tenant.id)
    until(lambda: farm.state(job_id)[0] == "succeeded")
    assert farm.breaches() == []


def test_a_running_job_keeps_its_lease(farm: FarmDatabase, crew: Plant) -> None:
    """A job that takes longer than its lease stays with its living worker."""
    del crew
    job_id = farm.queued(model="never")
    until(lambda: farm.state(job_id)[0] == "running")
    first = farm.job(job_id)["lease_until"]
    until(lambda: (farm.job(job_id)["lease_until"] - first).total_seconds() > 2.0)
    assert farm.state(job_id) == ("running", 1)
    farm.store.cancel(job_id, farm.tenant.id)


def test_a_removed_worker_registers_again(farm: FarmDatabase, crew: Plant) -> None:
    """A worker that was removed while unreachable registers again at its next heartbeat."""
    farm.execute("DELETE FROM workers")
    until(lambda: workers.alive(crew.engine))


def test_killing_a_worker_loses_nothing(farm: FarmDatabase, plant: Plant) -> None:
    """After kill -9 a second worker ends every job, each exactly once."""
    first = plant.start("slow")
    jobs = queue(farm, 40, "slow")
    until(lambda: count(farm, "succeeded") >= 8 and count(farm, "running") > 0)
    first.send_signal(signal.SIGKILL)
    first.wait()
    held = farm.rows("SELECT id FROM jobs WHERE status = 'running'")
    plant.start("slow")
    until(lambda: count(farm, "succeeded") == 40)
    assert held
    assert all(farm.job(row["id"])["crashes"] == 1 for row in held)
    assert all(farm.events(job_id).count("succeeded") == 1 for job_id in jobs)
    assert farm.breaches() == []


def test_a_worker_releases_its_jobs_at_sigterm(farm: FarmDatabase, plant: Plant) -> None:
    """It exits with 0, its jobs are queued again at no cost, and it leaves the registry."""
    process = plant.start("drained", slots=4)
    jobs = queue(farm, 4, "drained")
    until(lambda: count(farm, "running") == 4)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    for job_id in jobs:
        row = farm.job(job_id)
        assert (row["status"], row["releases"], row["crashes"]) == ("queued", 1, 0)
        assert farm.events(job_id) == ["queued", "running", "released"]
    assert process.pid not in {row["pid"] for row in workers.living(plant.engine)}
    assert farm.breaches() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("SLOTS", "none"), ("SERVE", "nobody")],
)
def test_a_worker_with_a_bad_setting_exits_with_a_reason(
    plant: Plant, name: str, value: str
) -> None:
    """The worker exits with an error code and one line, without a traceback."""
    log = plant.folder / "worker.log"
    log.touch()
    start = log.stat().st_size
    process = plant.spawn(**{f"RENDERFARM_{name}": value})
    assert process.wait(PATIENCE_S) != 0
    output = log.read_bytes()[start:].decode()
    assert "Traceback" not in output
    assert name in output or value in output
