"""`python -m bench.intake`: messages per second from each service's emulator into Postgres.

The same run measures the service's bare SDK: the shortest loop that receives and acknowledges, and
does nothing else. Both read queues of the same kind, filled alike by the same producer, with one
thread per queue, and each side in its own process, whose processor time is read. The emulators are
part of the measurement: no figure here is one of a cloud.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.config.repository import REPOSITORY
from app.database import create_engine, migrate
from app.local.child import Child
from app.local.postgres import Postgres
from app.local.program import Program
from app.local.roles import COMMAND
from app.tenants.tenants import ensure_tenant
from bench import machine, processor
from bench.errors import BenchError
from renderfarm.queues import open_queue
from tests.contract.queues.conftest import HARNESSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.tenants.tenants import Tenant
    from tests.contract.queues.harness import Harness

SERVICES = ("redis", "sqs", "pubsub", "servicebus")
RESULTS = REPOSITORY / "bench" / "results"
QUEUES = {"sqs": 20}
ROUNDS = {"sqs": 5}
"""Moto's receive takes longer the more messages a queue holds: SQS gets several queues, several
times.
"""
LEASE_S = 60.0
PATIENCE_S = 600.0
CHUNK = 500
MODELS = '[null]\npipeline = "null"\n'
BARE = "bench.bare_queues"
HEAD = """# Intake compared with the bare SDK

Made by `python -m bench.intake`; do not edit. {messages} messages a side through each emulator on this
machine; SQS in five rounds, for its emulator takes the longer the more a queue holds. Bare: the SDK
receives and acknowledges, nothing more. Intake: until the job is committed in Postgres. Processor
seconds are those of the reading process alone, without emulator and Postgres.

Measured {measured_at}, commit `{commit}`; {cpu}, {cores} cores, load at the start {load_average[0]}.

| service | intake, messages/s | bare, messages/s | ratio | intake, CPU s per 1,000 | bare, CPU s per 1,000 |
|---|---|---|---|---|---|
"""


def main(argv: Sequence[str]) -> int:
    """Measure each service, print the table, and write it next to the other results."""
    arguments = _arguments(argv)
    found: dict[str, Any] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "messages": arguments.messages,
        "services": {},
    }
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder, "postgres")) as postgres:
        migrate(postgres.url)
        for service in arguments.services:
            found["services"][service] = _service(service, arguments.messages, postgres, folder)
            print(_table(found), file=sys.stderr)
    arguments.results.mkdir(exist_ok=True)
    (arguments.results / "intake.json").write_text(json.dumps(found, indent=2) + "\n")
    (arguments.results / "intake.md").write_text(_table(found))
    return 0


def _service(service: str, count: int, postgres: Postgres, folder: str) -> dict[str, Any]:
    """Measure the two contenders in turn, each on its own queues that were filled before."""
    module, name = HARNESSES[service]
    harness: Harness = getattr(import_module(f"tests.contract.queues.{module}"), name)()
    records = Records(postgres.url)
    rounds = ROUNDS.get(service, 1)
    bares, intakes = [], []
    try:
        for _ in range(rounds):
            bares.append(_bare(harness, service, count // rounds))
            intakes.append(_intake(harness, service, count // rounds, records, folder))
        bare, intake = _together(count, bares), _together(count, intakes)
    finally:
        records.engine.dispose()
        harness.stop()
    return {"bare": bare, "intake": intake, "ratio": intake["per_s"] / bare["per_s"]}


def _made(harness: Harness, service: str) -> list[str]:
    """Return the URLs of new queues."""
    return [
        harness.make(lease_s=LEASE_S, max_deliveries=5, ordered=False)
        for _ in range(QUEUES.get(service, 1))
    ]


def _fill(urls: list[str], count: int) -> None:
    """Put this many messages into these queues in all."""
    each = count // len(urls)
    for url in urls:
        with open_queue(url) as queue:
            for start in range(0, each, CHUNK):
                part = range(start, min(start + CHUNK, each))
                queue.send_many({"prompt": f"{n} red circles", "model": "null"} for n in part)


def _bare(harness: Harness, service: str, count: int) -> dict[str, float]:
    """Run the SDK's own loop, in a process that prints when it begins and when it has them all."""
    urls = _made(harness, service)
    _fill(urls, count)
    command = [sys.executable, "-m", BARE, str(count), *urls]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used_s, began = processor.seconds([process.pid]), time.monotonic()
        said = process.stdout.readline()
        took_s = time.monotonic() - began
        used_s = processor.seconds([process.pid]) - used_s
        process.kill()
    if not said:
        raise BenchError("the bare loop did not receive every message")
    return _figures(count, took_s, used_s)


def _intake(
    harness: Harness, service: str, count: int, records: Records, folder: str
) -> dict[str, float]:
    """Run `renderfarm intake` like any user. Its tenant has no room until everything is ready."""
    urls = _made(harness, service)
    tenant = ensure_tenant(records.engine, f"t{time.time_ns()}")
    records.limit(tenant, 0)
    models = Path(folder, "models.toml")
    models.write_text(MODELS)
    log = Path(folder, f"{service}.log")
    program = Program(
        name="intake",
        argv=(*COMMAND, "intake"),
        environment={
            "RENDERFARM_DATABASE_URL": records.url,
            "RENDERFARM_BROKER_URL": "redis://127.0.0.1:1/0",
            "RENDERFARM_DIR": folder,
            "RENDERFARM_MODELS": str(models),
            "RENDERFARM_SERVE": "null",
            "RENDERFARM_SOURCES": json.dumps([{"url": u, "tenant": tenant.name} for u in urls]),
            "PYTHONPATH": str(REPOSITORY),
        },
        ready=lambda: log.read_text().count(" full ") >= len(urls),
    )
    child = Child(program, log)
    child.start()
    try:
        _fill(urls, count)
        assert child.pid is not None
        used_s = processor.seconds([child.pid])
        records.limit(tenant, 2 * count)
        took_s = records.await_jobs(tenant, count)
        return _figures(count, took_s, processor.seconds([child.pid]) - used_s)
    finally:
        child.stop()


class Records:
    """Return the database that intake writes to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)

    def limit(self, tenant: Tenant, most: int) -> None:
        """Set how many jobs of the tenant may wait."""
        update = text("UPDATE tenants SET max_queued = :most WHERE id = :id")
        with self.engine.begin() as connection:
            connection.execute(update, {"most": most, "id": tenant.id})

    def await_jobs(self, tenant: Tenant, count: int) -> float:
        """Wait for the last job.

        Return the seconds since the first one, by the database's clock.
        """
        query = text("""SELECT count(*), extract(epoch FROM max(created_at) - min(created_at))
                        FROM jobs WHERE tenant_id = :id""")
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at:
            with self.engine.connect() as connection:
                found, took_s = connection.execute(query, {"id": tenant.id}).one()
            if found >= count:
                return float(took_s)
            time.sleep(0.2)
        raise BenchError("intake did not bring in every message")


def _together(count: int, rounds: list[dict[str, float]]) -> dict[str, float]:
    """Combine the figures of equal rounds, of `count` messages in all, into one."""
    took_s = sum(each["took_s"] for each in rounds)
    used_s_per_1000 = sum(each["cpu_s_per_1000"] for each in rounds) / len(rounds)
    return _figures(count, took_s, used_s_per_1000 * count / 1000)


def _figures(count: int, took_s: float, used_s: float) -> dict[str, float]:
    return {"per_s": count / took_s, "cpu_s_per_1000": used_s * 1000 / count, "took_s": took_s}


def _table(found: dict[str, Any]) -> str:
    rows = []
    for service, contenders in found["services"].items():
        intake, bare = contenders["intake"], contenders["bare"]
        rates = f"{intake['per_s']:.0f} | {bare['per_s']:.0f} | {contenders['ratio']:.2f}"
        used = f"{intake['cpu_s_per_1000']:.2f} | {bare['cpu_s_per_1000']:.2f}"
        rows.append(f"| {service} | {rates} | {used} |\n")
    return HEAD.format(**found, **found["machine"]) + "".join(rows)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.intake", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=SERVICES)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
