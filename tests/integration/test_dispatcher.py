"""The dispatcher with a real Postgres and a real Redis."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text

from app import broker as carrier
from app.config.settings import Settings
from app.dispatch import workers
from app.dispatch.dispatcher import CANDIDATES, LEADERS_LOCK, Dispatcher, run
from app.notify import Listener
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    import redis
    from sqlalchemy import Engine

    from app.local.redis import Redis
    from tests.integration.records import FarmDatabase

AGAIN_S = 5.0


@pytest.fixture
def dispatcher(engine: Engine, redis_server: Redis, broker: redis.Redis) -> Dispatcher:
    """A dispatcher on an empty broker."""
    del broker
    celery = carrier.create_app(redis_server.url)
    client = carrier.connect(redis_server.url)
    return Dispatcher(engine=engine, celery=celery, client=client, again_s=AGAIN_S)


def worker(farm: FarmDatabase, slots: int, *models: str, name: str = "w") -> None:
    """Register a worker that is alive now."""
    workers.register(
        farm.engine,
        workers.Worker(
            id=name, host="host", pid=1, device="cpu", models=models or ("null",), slots=slots
        ),
    )


def hints(broker: redis.Redis, model: str = "null") -> list[str]:
    """Return the job ids in a model's queue, the next one first."""
    job_ids = []
    for raw in reversed(broker.lrange(carrier.queue_of(model), 0, -1)):
        headers = json.loads(raw)["headers"]
        job_ids.append(headers["id"].partition(".")[0])
    return job_ids


def ids(jobs: list[UUID]) -> list[str]:
    """Return ids in the form of hints."""
    return [str(job_id) for job_id in jobs]


def test_each_model_has_its_queue(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """A hint contains only the job's id and goes to the queue of the job's model."""
    worker(farm, 4, "null", "other")
    one, two = farm.queued(), farm.queued(model="other")
    assert dispatcher.round() == 2
    assert (hints(broker), hints(broker, "other")) == ([str(one)], [str(two)])
    (raw,) = broker.lrange("render.null", 0, -1)
    headers = json.loads(raw)["headers"]
    assert headers["id"] == f"{one}.1"
    assert headers["argsrepr"] == "null 64x64 10 steps: a red circle"


def test_no_hints_without_workers(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """Without a living worker for the model the backlog stays in Postgres."""
    farm.queued()
    assert dispatcher.round() == 0
    worker(farm, 4, "other")
    assert dispatcher.round() == 0
    worker(farm, 4)
    farm.execute("UPDATE workers SET seen_at = now() - interval '16 s'")
    assert dispatcher.round() == 0
    assert broker.keys("render.*") == []


def test_the_window_limits_the_hints_in_the_broker(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """At most twice the free slots; a hint that a worker takes makes room for the next."""
    jobs = [farm.queued() for _ in range(12)]
    worker(farm, 2)
    assert (dispatcher.round(), dispatcher.round()) == (4, 0)
    assert hints(broker) == ids(jobs[:4])
    for _ in range(2):
        broker.rpop("render.null")
    farm.claimed(jobs[0])
    farm.claimed(jobs[1])
    assert dispatcher.round() == 0  # both slots are busy: two hints are enough
    farm.store.cancel(jobs[0], farm.tenant.id)
    farm.store.cancel(jobs[1], farm.tenant.id)
    assert dispatcher.round() == 2
    assert hints(broker) == ids(jobs[2:6])


def test_slots_of_several_workers_add_up(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """The window counts the slots of all workers."""
    for _ in range(12):
        farm.queued()
    worker(farm, 2, name="a")
    worker(farm, 3, name="b")
    assert dispatcher.round() == 10
    assert len(hints(broker)) == 10


def test_jobs_that_are_not_due_are_not_hinted(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """A later retry, a passed deadline, a running and an ended job get no hint."""
    ahead, late, runs, gone = (farm.queued() for _ in range(4))
    farm.execute("UPDATE jobs SET run_after = now() + interval '1 h' WHERE id = :i", i=ahead)
    farm.outdate(late)
    farm.claimed(runs)
    farm.store.cancel(gone, farm.tenant.id)
    worker(farm, 8)
    assert dispatcher.round() == 0
    assert hints(broker) == []


def test_a_hint_that_leads_nowhere_is_sent_again(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """A job that is still queued after `again_s` is hinted again, and not earlier."""
    job_id = farm.queued()
    worker(farm, 4)
    assert (dispatcher.round(), dispatcher.round()) == (1, 0)
    farm.execute("UPDATE jobs SET hinted_at = now() - make_interval(secs => :s)", s=AGAIN_S - 2)
    assert dispatcher.round() == 0
    farm.execute("UPDATE jobs SET hinted_at = now() - make_interval(secs => :s)", s=AGAIN_S + 1)
    assert dispatcher.round() == 1
    assert hints(broker) == [str(job_id)] * 2


def test_a_released_job_is_hinted_at_once(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """A released job does not wait for `again_s`; its next attempt has its own name."""
    job_id = farm.queued()
    worker(farm, 4)
    dispatcher.round()
    broker.flushall()
    farm.claimed(job_id)
    farm.store.release(job_id, 1)
    assert dispatcher.round() == 1
    (raw,) = broker.lrange("render.null", 0, -1)
    assert json.loads(raw)["headers"]["id"] == f"{job_id}.2"


def test_a_broker_that_loses_its_data_loses_no_job(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """After FLUSHALL every job is hinted again."""
    jobs = [farm.queued() for _ in range(6)]
    worker(farm, 4)
    assert dispatcher.round() == 6
    broker.flushall()
    assert dispatcher.round() == 0
    farm.execute("UPDATE jobs SET hinted_at = now() - interval '1 h'")
    assert dispatcher.round() == 6
    assert sorted(hints(broker)) == sorted(ids(jobs))


def test_tenants_alternate_and_urgent_jobs_go_first(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """A long queue of one tenant does not delay another, and urgent jobs go first."""
    anns = [farm.queued() for _ in range(5)]
    bens = [farm.insert(farm.new(tenant=farm.other))[0].row["id"] for _ in range(2)]
    urgent = farm.queued(priority=10)
    worker(farm, 3)
    dispatcher.round()
    order = hints(broker)
    assert order[0] == str(urgent)
    # The urgent one counted for its tenant, so the other tenant is next.
    assert order[1:] == ids([bens[0], anns[0], bens[1], anns[1], anns[2]])


def test_a_tenants_own_urgent_jobs_do_not_starve_its_old_ones(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """Waiting raises a job's rank, also while more urgent jobs than fit arrive all the time."""
    old = farm.queued(priority=-5)
    farm.execute("UPDATE jobs SET created_at = now() - interval '20 min'")
    for _ in range(30):
        farm.queued(priority=5)
    worker(farm, 2)
    dispatcher.round()
    assert hints(broker)[0] == str(old)


def test_jobs_of_one_shape_go_together(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """Jobs that can share a forward pass are adjacent in the broker."""
    jobs = [farm.queued(width=64 if n % 2 else 128) for n in range(6)]
    worker(farm, 3)
    dispatcher.round()
    assert hints(broker) == ids([*jobs[::2], *jobs[1::2]])


def test_a_limited_tenant_gets_no_more_hints_than_it_may_run(
    dispatcher: Dispatcher, farm: FarmDatabase, broker: redis.Redis
) -> None:
    """Running and hinted jobs count; a tenant whose daily GPU-seconds are used gets no hint."""
    farm.execute("UPDATE tenants SET max_running = 2 WHERE id = :i", i=farm.tenant.id)
    mine = [farm.queued() for _ in range(5)]
    theirs = farm.insert(farm.new(tenant=farm.other))[0].row["id"]
    worker(farm, 8)
    assert dispatcher.round() == 3
    assert sorted(hints(broker)) == sorted(ids([mine[0], mine[1], theirs]))
    assert dispatcher.round() == 0
    claim = farm.claimed(mine[0])
    assert dispatcher.round() == 0
    farm.finish(claim)
    assert dispatcher.calls_for_a_round(f"{claim.id} succeeded")
    assert dispatcher.round() == 1
    farm.execute("UPDATE tenants SET max_running = NULL, max_gpu_seconds_per_day = 0")
    assert dispatcher.round() == 0


def test_finding_candidates_never_reads_the_backlog(farm: FarmDatabase, engine: Engine) -> None:
    """Each step of the plan uses an index, and reads a number of rows that the room limits."""
    farm.execute(
        """INSERT INTO jobs (id, tenant_id, idempotency_key, request_hash, request, model, steps,
                             priority, created_at, deadline_at)
           SELECT gen_random_uuid(), :tenant, n, sha256(n::text::bytea), '{}', 'null', 1, n % 3,
                  now() - make_interval(secs => n), now() + interval '1 h'
           FROM generate_series(1, 20000) n""",
        tenant=farm.tenant.id,
    )
    assert farm.other
    farm.execute("ANALYZE jobs")
    values = {"model": "null", "room": 16, "again_s": AGAIN_S}
    with engine.connect() as connection:
        query = text("EXPLAIN (ANALYZE, FORMAT JSON) " + CANDIDATES)
        plan = connection.execute(query, values).scalar_one()[0]["Plan"]
    farm.execute("DELETE FROM jobs")
    nodes = list(walk(plan))
    assert [n for n in nodes if n["Node Type"] == "Seq Scan"] == []
    assert max(n["Actual Rows"] * n["Actual Loops"] for n in nodes) <= 4 * 16
    assert max(n.get("Rows Removed by Filter", 0) for n in nodes) <= 1  # the end of the tenants


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a plan's nodes."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from walk(part)


def settings(database_url: str, redis_server: Redis, tmp_path: Path) -> Settings:
    """Return the settings of a dispatcher's process."""
    return Settings.from_environment(
        {
            "RENDERFARM_DATABASE_URL": database_url,
            "RENDERFARM_BROKER_URL": redis_server.url,
            "RENDERFARM_DIR": str(tmp_path),
        }
    )


@pytest.fixture
def begin(database_url: str, redis_server: Redis, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A function that starts a dispatcher in a thread; all are stopped after the test."""
    stop, threads = threading.Event(), []

    def start() -> None:
        arguments = (settings(database_url, redis_server, tmp_path), stop)
        threads.append(threading.Thread(target=run, args=arguments))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()


def leaders(farm: FarmDatabase) -> list[int]:
    """Return the server processes whose connections hold the leader's advisory lock."""
    rows = farm.rows(
        """SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = :key
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""",
        key=LEADERS_LOCK,
    )
    return [row["pid"] for row in rows]


def test_one_leads_and_the_other_takes_over(
    farm: FarmDatabase, broker: redis.Redis, begin: Callable[[], None]
) -> None:
    """One of two dispatchers leads; when its connection dies, one of them continues."""
    worker(farm, 4)
    begin()
    begin()
    (leader,) = until(lambda: leaders(farm))
    first = farm.queued()
    until(lambda: hints(broker) == [str(first)])
    farm.execute("SELECT pg_terminate_backend(:pid)", pid=leader)
    until(lambda: leaders(farm) not in ([], [leader]))
    assert len(leaders(farm)) == 1
    second = farm.queued()
    until(lambda: hints(broker) == ids([first, second]))


def test_a_leader_releases_the_lock_when_it_closes(database_url: str, farm: FarmDatabase) -> None:
    """A leader leads until it closes its connection; then another one leads at once."""
    one, other = (Listener(database_url, "jobs", LEADERS_LOCK) for _ in range(2))
    assert one.leads()
    assert not other.leads()
    assert one.leads()
    one.close()
    until(other.leads)
    other.close()
    until(lambda: leaders(farm) == [])


def test_a_silent_leader_loses_the_lock(database_url: str) -> None:
    """A frozen process keeps its connection and its lock, so another process terminates it."""
    frozen = Listener(database_url, "jobs", LEADERS_LOCK, silent_s=0.2)
    other = Listener(database_url, "jobs", LEADERS_LOCK, silent_s=0.2)
    assert frozen.leads()
    until(other.leads)
    with pytest.raises(psycopg.OperationalError):
        frozen.leads()
    assert not frozen.leads()
    frozen.close()
    other.close()


def test_an_active_leader_keeps_the_lock(database_url: str) -> None:
    """A leader that calls `leads` regularly is not silent."""
    leader = Listener(database_url, "jobs", LEADERS_LOCK, silent_s=1000.0)
    other = Listener(database_url, "jobs", LEADERS_LOCK, silent_s=1000.0)
    assert leader.leads()
    for _ in range(20):
        assert not other.leads()
        assert leader.leads()
    leader.close()
    other.close()


def test_a_follower_receives_no_notifications(database_url: str, farm: FarmDatabase) -> None:
    """A dispatcher that only waits to lead does not listen, so no notifications pile up."""
    leader, other = (Listener(database_url, "jobs", LEADERS_LOCK) for _ in range(2))
    assert leader.leads()
    for _ in range(3):
        assert not other.leads()
        farm.queued()
    assert not other.leads()
    assert other._connection is not None
    assert not other._connection._notifies_backlog
    leader.close()
    other.close()


def test_only_work_calls_for_a_round(farm: FarmDatabase, dispatcher: Dispatcher) -> None:
    """A new job calls for a round; an ended one only while others wait for its slot."""
    worker(farm, 1)
    dispatcher.round()
    assert dispatcher.calls_for_a_round("id queued")
    assert not dispatcher.calls_for_a_round("id progress")
    assert not dispatcher.calls_for_a_round("id succeeded")
    for _ in range(9):
        farm.queued()
    dispatcher.round()
    assert dispatcher.calls_for_a_round("id succeeded")


def test_the_process_runs_the_reaper_too(farm: FarmDatabase, begin: Callable[[], None]) -> None:
    """A dispatcher's process rescues lost jobs and expires late ones."""
    lost, late = farm.claimed().id, farm.queued()
    farm.lose(lost)
    farm.outdate(late)
    begin()
    until(lambda: farm.state(late)[0] == "expired")
    until(lambda: "rescued" in farm.events(lost))


def test_the_process_waits_for_an_unavailable_broker(
    farm: FarmDatabase, redis_server: Redis, broker: redis.Redis, begin: Callable[[], None]
) -> None:
    """While Redis is down no job is lost; afterwards the hint is sent."""
    worker(farm, 4)
    begin()
    until(lambda: leaders(farm))
    redis_server.stop()
    try:
        job_id = farm.queued()
        until(lambda: leaders(farm) == [])  # it has noticed
    finally:
        redis_server.start()
    farm.execute("UPDATE jobs SET hinted_at = NULL WHERE status = 'queued'")
    until(lambda: str(job_id) in hints(broker))
