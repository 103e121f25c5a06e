"""Dispatcher: chooses which jobs run next and publishes hints; the backlog stays in Postgres.

Each round counts the free slots of the workers and the hints in the broker, chooses the next jobs
fairly, and publishes their ids. It never publishes more hints than the slots can use soon
(backpressure). A hint that leads to no claim is sent again. One dispatcher leads at a time (leader
election): it holds an advisory lock, and another one takes over when it dies.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import redis
import structlog
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from app import broker, database
from app.database import autocommit, create_engine
from app.dispatch import workers
from app.dispatch.fairness import Candidate, choose, window
from app.dispatch.janitor import Janitor
from app.dispatch.reaper import Reaper
from app.errors import summary
from app.jobs.store import Store
from app.notify import Listener
from app.storage.objects import ObjectStorage

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from uuid import UUID

    from celery import Celery

    from app.config.settings import Settings

log = structlog.get_logger("app.dispatch.dispatcher")
POLL_S = 1.0
WAITING = frozenset({"queued", "retried", "rescued", "released"})
ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
LEADERS_LOCK = 7_236_002  # any fixed number; all dispatchers of a farm use the same
BACKOFF_S = (0.1, 0.5, 1.0, 2.0)
CONNECTION_ERRORS = (BrokerError, redis.RedisError, DBAPIError, *database.CONNECTION_ERRORS)

_DUE = """
SELECT id, tenant_id, priority, extract(epoch FROM now() - created_at)::float AS waited_s, shape
FROM jobs
WHERE status = 'queued' AND model = :model AND tenant_id = waiting.tenant
  AND run_after <= now() AND deadline_at > now()
  AND (hinted_at IS NULL OR hinted_at < now() - make_interval(secs => :again_s))
"""
# The query reads a bounded number of candidates per tenant, so its cost grows neither with the
# backlog nor with the number of tenants without jobs. The oldest jobs are always among the
# candidates; otherwise a stream of urgent jobs would keep them from ageing. The recursive part
# finds the tenants by an index skip scan.
CANDIDATES = f"""
WITH RECURSIVE waiting AS (
    (SELECT tenant_id AS tenant FROM jobs WHERE status = 'queued' AND model = :model
     ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT tenant_id FROM jobs WHERE status = 'queued' AND model = :model
              AND tenant_id > waiting.tenant ORDER BY tenant_id LIMIT 1)
    FROM waiting WHERE waiting.tenant IS NOT NULL
)
SELECT head.* FROM waiting CROSS JOIN LATERAL (
    ({_DUE} ORDER BY priority DESC, created_at LIMIT :room)
    UNION
    ({_DUE} ORDER BY created_at LIMIT :room)
) AS head WHERE waiting.tenant IS NOT NULL
"""  # noqa: S608 - both parts are ours
_RUNNING = "SELECT model, tenant_id, count(*) FROM jobs WHERE status = 'running' GROUP BY 1, 2"
# How many more jobs of a limited tenant may run: none if the day's GPU-seconds are used up.
_ALLOWED = """
SELECT t.id, CASE
    WHEN max_gpu_seconds_per_day <= coalesce((SELECT sum(gpu_seconds) FROM usage
             WHERE tenant_id = t.id AND day = (now() AT TIME ZONE 'UTC')::date), 0) THEN 0
    ELSE coalesce(max_running, 1000000)
       - (SELECT count(*) FROM jobs WHERE tenant_id = t.id AND status = 'running')
       - (SELECT count(*) FROM jobs WHERE id = ANY(:sent) AND tenant_id = t.id
            AND status = 'queued' AND hinted_at IS NOT NULL) END AS room
FROM tenants t WHERE max_running IS NOT NULL OR max_gpu_seconds_per_day IS NOT NULL
"""
MAX_SENT = 10_000


class Dispatcher:
    """Runs one round at a time.

    Its state may be lost at a restart; hints repeat after `again_s`.
    """

    def __init__(
        self, *, engine: Engine, celery: Celery, client: redis.Redis, again_s: float
    ) -> None:
        self._engine = autocommit(engine)
        self._store = Store(engine)
        self._celery = celery
        self._client = client
        self._again_s = again_s
        self._crowded = False
        self._allowed: dict[UUID, int] = {}
        self._sent: deque[tuple[float, UUID]] = deque(maxlen=MAX_SENT)

    def round(self) -> int:
        """Publish hints for the free slots. Return how many jobs were hinted."""
        slots = _slots(workers.living(self._engine))
        if not slots:
            return 0
        waiting = broker.waiting_hints(self._client, list(slots))
        running = self._running()
        self._allowed = self._limits()
        self._crowded = bool(self._allowed)
        return sum(
            self._hint(model, window(count, sum(running.get(model, {}).values())) - waiting[model],
                       running.get(model, {}))
            for model, count in slots.items()
        )  # fmt: skip

    def calls_for_a_round(self, notice: str) -> bool:
        """Whether a notification calls for a round: a job waits, or a slot may be free."""
        event = notice.rpartition(" ")[2]
        return event in WAITING or (self._crowded and event in ENDED)

    def _hint(self, model: str, room: int, in_progress: Mapping[UUID, int]) -> int:
        if room <= 0:
            self._crowded = True
            return 0
        ids = choose(self._candidates(model, room), in_progress, room, self._allowed)
        for row in self._store.hint(ids) if ids else ():
            self._sent.append((time.monotonic(), row["id"]))
            if row["tenant_id"] in self._allowed:
                self._allowed[row["tenant_id"]] -= 1
            broker.publish(self._celery, row["id"], row["attempt"], row["request"])
        self._crowded = self._crowded or len(ids) == room
        return len(ids)

    def _candidates(self, model: str, room: int) -> list[Candidate]:
        values = {"model": model, "room": room, "again_s": self._again_s}
        with self._engine.connect() as connection:
            return [Candidate(*row) for row in connection.execute(text(CANDIDATES), values)]

    def _limits(self) -> dict[UUID, int]:
        """Return how many more jobs of each limited tenant may run. Hints that were sent count."""
        while self._sent and self._sent[0][0] < time.monotonic() - self._again_s:
            self._sent.popleft()
        values = {"sent": [job_id for _, job_id in self._sent]}
        with self._engine.connect() as connection:
            return {row.id: row.room for row in connection.execute(text(_ALLOWED), values)}

    def _running(self) -> dict[str, dict[UUID, int]]:
        found: dict[str, dict[UUID, int]] = {}
        with self._engine.connect() as connection:
            for model, tenant_id, count in connection.execute(text(_RUNNING)):
                found.setdefault(model, {})[tenant_id] = count
        return found


def _slots(living: list[Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for worker in living:
        for model in worker["models"]:
            found[model] = found.get(model, 0) + worker["slots"]
    return found


def run(settings: Settings, stop: threading.Event) -> None:
    """Dispatch and reap until `stop` is set.

    Wait, and log it, while Postgres or Redis is unavailable.
    """
    engine = create_engine(settings.database_url, pool_size=4)
    client = broker.connect(settings.broker_url)
    celery = broker.create_app(settings.broker_url)
    dispatcher = Dispatcher(
        engine=engine, celery=celery, client=client, again_s=settings.hint_again_s
    )
    listener = Listener(settings.database_url, "jobs", LEADERS_LOCK)
    store, storage = Store(engine), ObjectStorage(settings)
    Reaper(store=store, engine=engine, settings=settings).start(stop)
    Janitor(store=store, engine=engine, storage=storage, settings=settings).start(stop)
    failures, leading = 0, False
    log.info("dispatcher_started")
    while not stop.is_set():
        try:
            was_leading, leading = leading, listener.leads()
            if leading and not was_leading:
                log.info("leader_elected")
            if leading:
                dispatcher.round()
                listener.wait(POLL_S, dispatcher.calls_for_a_round)
            else:
                stop.wait(POLL_S)
            failures = 0
        except CONNECTION_ERRORS as error:
            listener.close()
            failures += 1
            log.warning("dependency_unavailable", cause=summary(error))
            stop.wait(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])
    listener.close()
    engine.dispose()
    log.info("dispatcher_stopped")
