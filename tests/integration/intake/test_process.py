"""The whole line as processes, from a producer's queue to its webhook, on every service."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.config.repository import REPOSITORY
from app.dispatch import workers
from app.local.program import Program
from app.local.roles import COMMAND
from renderfarm.queues import open_queue
from tests.integration.dispatching import dispatching, environment
from tests.integration.intake.rig import MODELS
from tests.integration.records import FarmDatabase
from tests.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from app.local.redis import Redis
    from tests.contract.queues.harness import Harness

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LEASE_S = 60.0


class Customer:
    """A customer's endpoint: what it was told of each job."""

    def __init__(self) -> None:
        told: list[tuple[str, str, str | None]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["content-length"])))
                told.append((event["type"], event["data"]["id"], self.headers.get("traceparent")))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.told = told
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever).start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class Line:
    """A dispatcher, a worker and a courier at work, and intakes to be started and stopped."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = environment
        self._folder = folder

    def start(self, *argv: str, **settings: str) -> subprocess.Popen[bytes]:
        """A process of the farm; it ends with this one at the latest."""
        environment = {
            **self._environment,
            **{f"RENDERFARM_{name}": value for name, value in settings.items()},
            "PYTHONPATH": str(REPOSITORY),
        }
        program = Program(name=argv[-1], argv=argv, environment=environment)
        with (self._folder / f"{argv[-1]}.log").open("ab") as log:
            return subprocess.Popen(
                program.guarded_argv, env=program.variables, cwd=REPOSITORY, stdout=log, stderr=log
            )

    @contextmanager
    def role(self, *argv: str, **settings: str) -> Iterator[None]:
        """A process of the farm, told to stop at the end and gone after that."""
        process = self.start(*argv, **settings)
        try:
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0, self.log(argv[-1])
        finally:
            process.kill()
            process.wait()

    def intake(self, url: str) -> AbstractContextManager[None]:
        """An intake that reads one queue."""
        sources = json.dumps([{"url": url, "tenant": "ann"}])
        return self.role(*COMMAND, "intake", SOURCES=sources)

    def log(self, role: str) -> str:
        """What a role has said."""
        return (self._folder / f"{role}.log").read_text()


@pytest.fixture(scope="module")
def line(
    engine: Engine, database_url: str, redis_server: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Line]:
    """The farm's processes, but for the intake."""
    folder = tmp_path_factory.mktemp("line")
    more = {"SECRET": "sixteen letters!", "WEBHOOK_ALLOW_PRIVATE": "1"}
    variables = environment(
        folder, MODELS, database_url, redis_server.url, SERVE="quick,other", **more
    )
    made = Line(variables, folder)
    with (
        dispatching(variables),
        made.role(sys.executable, "-m", "workers"),
        made.role(*COMMAND, "courier"),
    ):
        until(lambda: workers.living(engine))
        yield made


@pytest.fixture
def farm(engine: Engine) -> FarmDatabase:
    """The records, emptied of all but the workers."""
    found = FarmDatabase(engine)
    found.reset(workers=False)
    assert found.tenant.name == "ann"
    return found


@pytest.fixture
def customer() -> Iterator[Customer]:
    """An endpoint that listens."""
    made = Customer()
    yield made
    made.close()


def test_twenty_requests_come_back_as_webhooks(
    farm: FarmDatabase, line: Line, harness: Harness, customer: Customer
) -> None:
    """A producer sends; each picture is made once, its webhook comes with the producer's trace."""
    url = harness.make(lease_s=LEASE_S, max_deliveries=5, ordered=False)
    if url.startswith("memory:"):
        pytest.skip("a memory queue lives within one process")
    requests = [{"prompt": f"{n} red circles", "webhook": {"url": customer.url}} for n in range(20)]
    with open_queue(url) as queue, line.intake(url):
        sent = queue.send_many(requests, attributes={"traceparent": TRACE})
        until(lambda: len(farm.rows("SELECT * FROM outbox WHERE state = 'delivered'")) == 20)
    assert sorted(customer.told) == sorted(("job.succeeded", job_id, TRACE) for job_id in sent)
    assert len(farm.rows("SELECT * FROM images")) == 20
    assert farm.breaches() == []


def test_sigterm_hands_back_at_once_what_is_not_committed(
    farm: FarmDatabase, line: Line, redis_server: Redis
) -> None:
    """Told to stop while its commit is stuck, it gives the messages back and ends with 0."""
    url = f"{redis_server.url}?stream={uuid4()}&lease_s=3600"
    with open_queue(url) as queue:
        with farm.engine.begin() as connection:
            connection.execute(text("LOCK TABLE jobs IN SHARE ROW EXCLUSIVE MODE"))
            with line.intake(url):
                sent = queue.send_many([{"prompt": "x"}, {"prompt": "y"}])
                until(lambda: _stuck(farm))
            again = queue.receive()
        assert {json.loads(message.body)["id"] for message in again} == set(sent)
        assert [message.attempt for message in again] == [2, 2]
    assert farm.rows("SELECT * FROM jobs") == []


def _stuck(farm: FarmDatabase) -> bool:
    """Whether an INSERT of jobs waits for the lock."""
    query = """SELECT 1 FROM pg_stat_activity
               WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT INTO jobs%'"""
    return bool(farm.rows(query))


def test_an_intake_without_sources_says_so(line: Line) -> None:
    """It ends with a failure and names the variable in one line."""
    process = line.start(*COMMAND, "intake")
    assert process.wait(PATIENCE_S) == 1
    assert "RENDERFARM_SOURCES is not set" in line.log("intake").splitlines()[-1]
