"""The killed intakes in full: every service and point many times, with a report.

    python -m tests.integration.intake.killed_intakes_long --times 20
        [--services redis sqs] [--points "amid ack"]

Each service has a process, a Postgres and an emulator of its own. The report is written again after
each point, so that one which was stopped says how far it came; what is run again replaces its line.
`--lease-s` is for a busy machine: leases that run out by themselves use up deliveries.
"""
# ruff: noqa: T201 - a program that reports

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from app.config.repository import REPOSITORY
from app.database import create_engine, migrate
from app.local.postgres import Postgres
from bench import machine
from tests.contract.queues.conftest import HARNESSES
from tests.integration.intake import doomed, killed_intakes
from tests.integration.intake.rig import MODELS, IntakeRig
from tests.integration.records import FarmDatabase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.queues import Queue as Pipe

    from tests.contract.queues.harness import Harness

RESULTS = REPOSITORY / "bench" / "results"
HEAD = """# Intake killed at eight points

Made by `make kill-intakes`; do not edit. In each run a producer sends {good} messages with an id of their own, {twice} of
them twice, {nameless} without an id, and {bad} bad ones. An intake is killed with SIGKILL at the point,
another one finishes. A run is kept when the rows of `jobs` are the distinct keys that were sent, each
once, every bad message is in the dead-letter and in `rejects` once, with its reason, the queue is empty and
the audit finds nothing.

Last run {measured_at}, commit `{commit}`; {cpu}, {cores} cores.

| service | point | runs | kept | distinct keys sent | rows of jobs | bad sent | in the dead-letter |
|---|---|---|---|---|---|---|---|
"""


def main(argv: Sequence[str]) -> int:
    """Run every point on every service several times, and yield the results."""
    arguments = _arguments(argv)
    found: dict[str, Any] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "points": _before(arguments),
    }
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(len(arguments.services), context) as pool,
    ):
        told: Pipe[dict[str, Any] | None] = manager.Queue()  # type: ignore[assignment]
        jobs = [
            pool.submit(_service, service, arguments, told.put) for service in arguments.services
        ]
        left = len(jobs)
        while left:
            point = told.get()
            if point is None:
                left -= 1
                continue
            found["points"].append(point)
            _write(found, arguments.results)
            print("{service:10} {point:15} {kept} of {runs}".format(**point), flush=True)
        for job in jobs:
            job.result()
    lost = sum(point["runs"] - point["kept"] for point in found["points"])  # earlier ones too
    print("intake: " + (f"{lost} runs failed" if lost else "every run kept every message"))
    return 1 if lost else 0


def _service(
    service: str,
    arguments: argparse.Namespace,
    tell: Callable[[dict[str, Any] | None], None],
) -> None:
    """All points on one service; each is told when it is done, and None at the end."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (folder / "models.toml").write_text(MODELS)
            postgres = stack.enter_context(Postgres(folder / "postgres"))
            migrate(postgres.url)
            engine = create_engine(postgres.url)
            stack.callback(engine.dispose)
            module, name = HARNESSES[service]
            harness = getattr(import_module(f"tests.contract.queues.{module}"), name)()
            stack.callback(harness.stop)
            desk = IntakeRig(FarmDatabase(engine), postgres.url, folder)
            for point in arguments.points:
                tell(_times(desk, harness, service, point, arguments))
    finally:
        tell(None)


def _before(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The lines of an earlier report that this run does not replace."""
    try:
        points = json.loads((arguments.results / "killed-intakes.json").read_text())["points"]
    except (OSError, ValueError, KeyError):
        return []
    return [
        each
        for each in points
        if each["service"] not in arguments.services or each["point"] not in arguments.points
    ]


def _times(
    desk: IntakeRig, harness: Harness, service: str, point: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    kept: list[killed_intakes.Found] = []
    began, times = time.monotonic(), arguments.times
    for n in range(times):
        try:
            seed = f"{service} {point} {n}"
            kept.append(killed_intakes.once(desk, harness, [point], seed, arguments.lease_s))
        except (AssertionError, pytest.fail.Exception) as error:
            print(f"{service}, {point}, run {n}: {error}", file=sys.stderr, flush=True)
    return {
        "service": service,
        "point": point,
        "runs": times,
        "kept": len(kept),
        "keys": sum(each.keys for each in kept),
        "jobs": sum(each.jobs for each in kept),
        "bad": sum(each.bad for each in kept),
        "dead": sum(each.dead for each in kept),
        "took_s": round(time.monotonic() - began, 1),
    }


def _write(found: dict[str, Any], folder: Path) -> None:
    found["points"].sort(
        key=lambda each: (killed_intakes.SERVICES.index(each["service"]), each["point"])
    )
    folder.mkdir(exist_ok=True)
    (folder / "killed-intakes.json").write_text(json.dumps(found, indent=2) + "\n")
    rows = [
        "| {service} | {point} | {runs} | {kept} | {keys} | {jobs} | {bad} | {dead} |\n".format(
            **each
        )
        for each in found["points"]
    ]
    sent = {
        "good": killed_intakes.GOOD,
        "twice": killed_intakes.TWICE,
        "nameless": killed_intakes.NAMELESS,
        "bad": killed_intakes.BAD,
    }
    (folder / "killed-intakes.md").write_text(
        HEAD.format(**found, **found["machine"], **sent) + "".join(rows)
    )


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.intake.killed_intakes_long")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument(
        "--services", nargs="+", choices=killed_intakes.SERVICES, default=killed_intakes.SERVICES
    )
    parser.add_argument("--points", nargs="+", choices=doomed.POINTS, default=doomed.POINTS)
    parser.add_argument("--lease-s", type=float, default=killed_intakes.LEAST_LEASE_S)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
