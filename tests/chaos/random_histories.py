"""R16: random histories of jobs in a real Postgres, compared with a model (model-based testing).

Then ten guards are removed from the statements, one at a time (mutation testing). The model must
notice each.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from app.database import create_engine, migrate
from app.jobs import statements
from app.local.postgres import Postgres
from tests.chaos.job_model import JobModel
from tests.chaos.report import Fired, Verdict
from tests.integration.records import FarmDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

# By the name of a guard: its statement, its text, and the text that replaces it. Without the guard,
# the statement changes jobs that it must not change.
GUARDS: dict[str, tuple[str, str, str]] = {
    "claim: still queued": ("CLAIM", "status = 'queued' AND run_after", "run_after"),
    "claim: due": ("CLAIM", "AND run_after <= now()", ""),
    "claim: deadline ahead": ("CLAIM", "AND deadline_at > now()", ""),
    "renew: attempt": ("RENEW", "AND jobs.attempt = held.attempt", ""),
    "succeed: attempt": ("SUCCEED", "AND attempt = :attempt", "AND :attempt > 0"),
    "fail: attempt": ("FAIL", "AND attempt = :attempt", "AND :attempt > 0"),
    "retry: attempt": ("RETRY", "AND attempt = :attempt", "AND :attempt > 0"),
    "release: attempt": ("RELEASE", "AND attempt = :attempt", "AND :attempt > 0"),
    "cancel: own job": ("CANCEL", "AND tenant_id = :tenant_id", "AND :tenant_id IS NOT NULL"),
    "rescue: lease expired": ("RESCUE", "AND lease_until < now()", ""),
}


def play(engine: Engine, examples: int, steps: int = 25) -> None:
    """Play `examples` random histories of `steps` moves; raises the error of the first bad one."""
    JobModel.farm = FarmDatabase(engine)
    run_state_machine_as_test(
        JobModel,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )


@contextmanager
def without(guard: str) -> Iterator[None]:
    """Remove a guard from its statement within the block."""
    name, text, replacement = GUARDS[guard]
    original: str = getattr(statements, name)
    assert original.count(text) == 1, f"{name} has no {text!r}"
    setattr(statements, name, original.replace(text, replacement))
    try:
        yield
    finally:
        setattr(statements, name, original)


def caught(engine: Engine, guard: str, examples: int) -> bool:
    """Whether random histories notice that a guard is missing."""
    with without(guard):
        try:
            play(engine, examples)
        except Exception:  # noqa: BLE001 - an assertion of the model, or the database's refusal
            return True
    return False


def check(verdict: Verdict, engine: Engine, examples: int) -> None:
    """Play with all guards, then without each of them."""
    began = time.monotonic()
    problem: Any = None
    try:
        play(engine, examples)
    except Exception as error:  # noqa: BLE001 - the error is the figure of the claim
        problem = f"{type(error).__name__}: {error}"
    verdict.equal("error in random histories", problem, None)
    found = [guard for guard in GUARDS if caught(engine, guard, examples)]
    verdict.faults = [Fired(0.0, "guard removed", guard, "noticed") for guard in found]
    verdict.equal("guards whose removal is not noticed", sorted(GUARDS.keys() - found), [])
    verdict.most("seconds", time.monotonic() - began, 60)


def run(examples: int = 25) -> Verdict:
    """Play the histories on a new database."""
    verdict = Verdict("R16", "random histories, and ten guards removed in turn")
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder)) as postgres:
        migrate(postgres.url)
        engine = create_engine(postgres.url)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ALTER SYSTEM SET synchronous_commit = off")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        check(verdict, engine, examples)
        engine.dispose()
    return verdict.end()
