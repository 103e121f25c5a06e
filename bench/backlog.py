"""The cost of a long backlog: 1,000 queued jobs against 1,000,000, and a table full of ended jobs.

    python -m bench.backlog [--most 1000000] [--rounds 30]

It uses its own Postgres, and the statements that the farm runs: submit, choose candidates, record
the hint, claim, renew, finish. Each figure is the median of the rounds, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.config.repository import REPOSITORY
from app.database import create_engine, migrate
from app.dispatch.dispatcher import CANDIDATES
from app.dispatch.fairness import Candidate, choose
from app.ids import new_id
from app.jobs.records import AttemptCosts, NewImage, NewJob
from app.jobs.store import Store
from app.local.postgres import Postgres
from app.tenants import tenants
from bench.machine import commit, machine, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy import Engine

TENANTS = 10
ROOM = 32
REQUEST: dict[str, Any] = {
    "prompt": "a red circle on a blue background", "model": "null", "negative_prompt": "",
    "width": 64, "height": 64, "num_inference_steps": 10, "guidance_scale": 5.0, "num_images": 1,
    "seed": 7, "scheduler": "euler", "image": None, "mask": None, "strength": None,
    "output_format": "png", "priority": 0, "deadline_s": 600, "cache": True, "metadata": {},
    "webhook": None,
}  # fmt: skip
COSTS = AttemptCosts(0.5, 0.1, 0.25, 0.01)
_FILL = text("""
INSERT INTO jobs (id, tenant_id, idempotency_key, request_hash, request, model, steps, shape,
                  priority, created_at, deadline_at)
SELECT gen_random_uuid(), (CAST(:tenants AS uuid[]))[1 + n % :count], 'fill ' || :tag || n,
       sha256(n::text::bytea), CAST(:request AS jsonb), 'null', 10, '64x64', n % 3,
       now() - make_interval(secs => n * 0.001), now() + interval '1 day'
FROM generate_series(1, :n) n
""")
_END = text("""
UPDATE jobs SET status = 'cancelled', finished_at = now() WHERE status = 'queued'
""")


class BacklogDatabase:
    """A database, and the farm's own access to it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.store = Store(engine)
        self.tenants = [tenants.ensure_tenant(engine, f"tenant-{n}").id for n in range(TENANTS)]

    def fill(self, count: int, tag: str) -> None:
        """Queue this many more jobs."""
        values = {"tenants": self.tenants, "count": TENANTS, "tag": tag, "n": count}
        with self.engine.begin() as connection:
            connection.execute(_FILL, values | {"request": json.dumps(REQUEST)})
        self.settle()

    def end(self) -> None:
        """End every queued job."""
        with self.engine.begin() as connection:
            connection.execute(_END)
        self.settle()

    def settle(self) -> None:
        """Do now what autovacuum does later."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM (ANALYZE) jobs"))

    def submit(self) -> None:
        """One submission."""
        new = new_id()
        self.store.insert([NewJob(new, self.tenants[0], str(new), bytes(32), REQUEST)], 10**9)

    def candidates(self) -> list[UUID]:
        """Choose candidates, like a round of the dispatcher."""
        values = {"model": "null", "room": ROOM, "again_s": 5.0}
        with self.engine.connect() as connection:
            found = [Candidate(*row) for row in connection.execute(text(CANDIDATES), values)]
        return choose(found, {}, ROOM)

    def plan(self) -> list[str]:
        """Return the access paths in the plan of the dispatcher's query."""
        values = {"model": "null", "room": ROOM, "again_s": 5.0}
        with self.engine.connect() as connection:
            query = text("EXPLAIN (FORMAT JSON) " + CANDIDATES)
            plan = connection.execute(query, values).scalar_one()[0]["Plan"]
        return sorted(set(_accesses(plan)))


def _accesses(plan: dict[str, Any]) -> list[str]:
    here = []
    if "Scan" in plan["Node Type"] and "Relation Name" in plan:
        where = plan.get("Index Name", plan["Relation Name"])
        here = [f"{plan['Node Type']} on {where}"]
    return here + [each for part in plan.get("Plans", ()) for each in _accesses(part)]


def measure(farm: BacklogDatabase, rounds: int) -> dict[str, float]:
    """Return the milliseconds of each step; those of a dispatcher's round are per chosen job."""
    took: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Any], share: int = 1) -> Any:
        began = time.perf_counter()
        answer = work()
        took.setdefault(name, []).append((time.perf_counter() - began) * 1000 / share)
        return answer

    for _ in range(rounds):
        timed("submit", farm.submit)
        ids = timed("choose, per job", farm.candidates, ROOM)
        timed("hint, per job", partial(farm.store.hint, ids), ROOM)
        claims = [timed("claim", partial(farm.store.claim, i, "w", 30.0)) for i in ids]
        held = {(claim.id, claim.attempt): 1 for claim in claims}
        timed("renew, per job", partial(farm.store.renew, held, 30.0), ROOM)
        for claim in claims:
            key = f"{claim.tenant_id}/{claim.id}/1/0.png"
            image = NewImage(0, key, 64, 64, "image/png", 9, "ab" * 32, 7)
            timed("finish", partial(farm.store.succeed, claim.id, 1, [image], COSTS))
    return {name: round(statistics.median(values), 3) for name, values in took.items()}


def main(argv: Sequence[str]) -> int:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.backlog")
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args(argv)
    stages: dict[str, dict[str, float]] = {}
    plans: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder)) as postgres:
        migrate(postgres.url)
        engine = create_engine(postgres.url)
        farm = BacklogDatabase(engine)
        measure(farm, 2)
        for name, count in (("1,000 queued", 1000), (f"{arguments.most:,} queued", arguments.most)):
            farm.fill(count, name)
            stages[name], plans[name] = measure(farm, arguments.rounds), farm.plan()
            print(name, stages[name], flush=True)
        farm.end()
        farm.fill(1000, "after")
        name = f"1,000 queued next to {arguments.most:,} ended"
        stages[name], plans[name] = measure(farm, arguments.rounds), farm.plan()
        print(name, stages[name], flush=True)
        engine.dispose()
    _write(stages, plans, arguments.rounds)
    return 0


def _write(stages: dict[str, dict[str, float]], plans: dict[str, list[str]], rounds: int) -> None:
    where = {"commit": commit(), **machine(), "postgres": "embedded, fsync on", "rounds": rounds}
    record = {"machine": where, "versions": versions(), "ms": stages, "plans": plans}
    folder = REPOSITORY / "bench" / "results"
    (folder / "backlog.json").write_text(json.dumps(record, indent=1) + "\n")
    names = list(stages)
    load = f"load average {where['load_average'][0]}"
    said = f"Medians of {rounds} rounds, in milliseconds, with {TENANTS} tenants."
    lines = ["# A long backlog", "", said]
    lines += [f"{where['cpu']}, {where['cores']} cores, {load}, at {where['commit']}.", ""]
    lines += ["| step | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {step} | " + " | ".join(f"{stages[name][step]:g}" for name in names) + " |"
        for step in stages[names[0]]
    ]
    lines += ["", "The dispatcher's look reads the jobs by these ways alone:", ""]
    lines += [f"- {name}: {', '.join(plans[name])}" for name in names]
    (folder / "backlog.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
