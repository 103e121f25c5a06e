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

# What is taken out of which statement; what is left changes jobs that it must not change.
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
    """Play so many random histories; raises what the first bad one shows."""
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
    """The statements, as they would be if somebody had forgotten this guard."""
    name, text, instead = GUARDS[guard]
    whole: str = getattr(statements, name)
    assert whole.count(text) == 1, f"{name} has no {text!r}"
    setattr(statements, name, whole.replace(text, instead))
    try:
        yield
    finally:
        setattr(statements, name, whole)


def caught(engine: Engine, guard: str, examples: int) -> bool:
    """Whether playing notices that a guard is gone."""
    with without(guard):
        try:
            play(engine, examples)
        except Exception:  # noqa: BLE001 - an assertion of the model, or the database's refusal
            return True
    return False


def hold(verdict: Verdict, engine: Engine, examples: int) -> None:
    """Play with every guard in its place, then without each."""
    began = time.monotonic()
    wrong: Any = None
    try:
        play(engine, examples)
    except Exception as error:  # noqa: BLE001 - what it was is the figure
        wrong = f"{type(error).__name__}: {error}"
    verdict.equal("what random histories show", wrong, None)
    found = [guard for guard in GUARDS if caught(engine, guard, examples)]
    verdict.faults = [Fired(0.0, "guard removed", guard, "noticed") for guard in found]
    verdict.equal("guards that can be missing unnoticed", sorted(GUARDS.keys() - found), [])
    verdict.most("seconds", time.monotonic() - began, 60)


def run(examples: int = 25) -> Verdict:
    """On a database of its own."""
    verdict = Verdict("R16", "random histories, and ten guards taken out in turn")
    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder)) as postgres:
        migrate(postgres.url)
        engine = create_engine(postgres.url)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ALTER SYSTEM SET synchronous_commit = off")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        hold(verdict, engine, examples)
        engine.dispose()
    return verdict.end()
