"""The killed couriers in full, with a report beside the benchmarks' results.

python -m tests.integration.courier.killed_couriers_long --webhooks 5000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from app.config.repository import REPOSITORY
from app.database import create_engine, migrate
from app.local.postgres import Postgres
from bench import machine
from tests.integration.courier import killed_couriers
from tests.integration.courier.conftest import fill

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = REPOSITORY / "bench" / "results"
HEAD = """# Webhooks while couriers are killed

Made by `make kill-couriers`; do not edit. {webhooks} webhooks to {endpoints} endpoints, of which 7 in 10 are healthy and
the others answer 500, hang, or redirect to a canary on loopback. Of two couriers one is killed with
SIGKILL every {kill_s:g} s. A lease lasts {lease_s:g} s and an answer is waited for {limit_s:g} s; waits between tries that are
longer are cut short.

Measured {measured_at}, commit `{commit}`; {cpu}, {cores} cores, load at the start {load_average[0]}.

| | |
|---|---|
"""


def slow(found: killed_couriers.Found) -> list[str]:
    """What is not as it should be where the cores are idle."""
    wrong = {
        "more than 1 % came twice": found.duplicates > found.healthy / 100,
        "p95 is above 5 s": found.p95_s > 5,
    }
    return [text for text, is_so in wrong.items() if is_so]


def main(argv: Sequence[str]) -> int:
    """Run it, and keep the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.courier.killed_couriers_long"
    )
    parser.add_argument("--webhooks", type=int, default=5000)
    parser.add_argument("--per-s", type=float, default=100.0, help="how fast they are written")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    arguments = parser.parse_args(argv)
    about = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "webhooks": arguments.webhooks,
    }
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder, "postgres")) as postgres:
        migrate(postgres.url)
        engine = create_engine(postgres.url)
        found = asyncio.run(
            killed_couriers.run(fill(engine, postgres.url), arguments.webhooks, arguments.per_s)
        )
        engine.dispose()
    wrong = killed_couriers.verdict(found) + slow(found)
    arguments.results.mkdir(exist_ok=True)
    about |= {"found": asdict(found), "wrong": wrong}
    (arguments.results / "killed-couriers.json").write_text(json.dumps(about, indent=2) + "\n")
    constants = {
        "endpoints": killed_couriers.ENDPOINTS, "kill_s": killed_couriers.KILL_S, "lease_s": killed_couriers.LEASE_S, "limit_s": killed_couriers.LIMIT_S,
    }  # fmt: skip
    table = HEAD.format(**about, **machine_fields(about), **constants) + "".join(
        f"| {name.replace('_', ' ')} | {value:.3g} |\n" if isinstance(value, float)
        else f"| {name.replace('_', ' ')} | {value} |\n"
        for name, value in asdict(found).items()
    )  # fmt: skip
    (arguments.results / "killed-couriers.md").write_text(table)
    sys.stdout.write(table + "\n" + ("webhooks: " + ("; ".join(wrong) or "as it should be")) + "\n")
    return 1 if wrong else 0


def machine_fields(about: dict[str, object]) -> dict[str, object]:
    """The machine's own fields, for the report's head."""
    found = about["machine"]
    assert isinstance(found, dict)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
