"""The audit: silent over honest records, and naming each breach that is planted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.jobs.audit import INVARIANTS, audit
from app.jobs.records import Failure

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.records import FarmDatabase

HOOK = {"url": "https://a.test/hook", "events": ["job.succeeded"]}
END = "UPDATE jobs SET finished_at = now(), lease_until = NULL, status = "
SAY = "INSERT INTO events (job_id, attempt, type) VALUES "

# What is planted in which job, and the invariants that then do not hold.
BREACHES: dict[str, tuple[str, str]] = {
    "ended without an event": ("running", END + "'cancelled' WHERE id = :id"),
    "ended otherwise than it says": ("done", END + "'cancelled' WHERE id = :id"),
    "said to have ended": ("running", SAY + "(:id, 1, 'expired')"),
    "came from nowhere": ("queued", "DELETE FROM events WHERE job_id = :id"),
    "came twice": ("queued", SAY + "(:id, 0, 'queued')"),
    "ran without saying so": (
        "running",
        "DELETE FROM events WHERE job_id = :id AND type = 'running'",
    ),
    "said twice to run": ("running", SAY + "(:id, 1, 'running')"),
    "ended an attempt twice": ("retried", SAY + "(:id, 1, 'released')"),
    "lost its image": ("done", "DELETE FROM images WHERE job_id = :id"),
    "has an image of an older attempt": (
        "done",
        "UPDATE images SET key = replace(key, '/1/', '/0/') WHERE job_id = :id",
    ),
    "has an image too early": (
        "running",
        "INSERT INTO images VALUES (:id, 0, 'k', 1, 1, 't', 1, repeat('a', 64), 0)",
    ),
    "released more often than it says": (
        "running",
        "UPDATE jobs SET releases = 1 WHERE id = :id",
    ),
    "failed more often than it says": ("running", "UPDATE jobs SET failures = 1 WHERE id = :id"),
    "crashed more often than it says": ("running", "UPDATE jobs SET crashes = 1 WHERE id = :id"),
    "rescued without a crash": ("retried", "UPDATE events SET type = 'rescued' WHERE job_id = :id AND type = 'retried'"),
    "forgotten by the reaper": (
        "running",
        "UPDATE jobs SET lease_until = now() - interval '31 s' WHERE id = :id",
    ),
    "late": ("queued", "UPDATE jobs SET deadline_at = now() - interval '31 s' WHERE id = :id"),
    "told nobody": ("done", "DELETE FROM outbox WHERE job_id = :id"),
    "was answered without an image": ("cached", "DELETE FROM images WHERE job_id = :id"),
    "has images that aged out": ("done", "UPDATE jobs SET images_gone_at = now() WHERE id = :id"),
    "was not counted": ("cached", "DELETE FROM usage_entries WHERE cached AND :id IS NOT NULL"),
    "runs beside too many": ("running", "UPDATE tenants SET max_running = 0 WHERE :id IS NOT NULL"),
}  # fmt: skip
EXPECTED: dict[str, set[int]] = {
    "ended without an event": {0},
    "ended otherwise than it says": {0, 10},
    "said to have ended": {1},
    "came from nowhere": {2},
    "came twice": {2},
    "ran without saying so": {3},
    "said twice to run": {3},
    "ended an attempt twice": {4, 11},
    "lost its image": {5},
    "has an image of an older attempt": {5},
    "was answered without an image": {6},
    "has images that aged out": {7},
    "was not counted": {8},
    "runs beside too many": {9},
    "has an image too early": {10},
    "released more often than it says": {11},
    "failed more often than it says": {11},
    "crashed more often than it says": {11},
    "rescued without a crash": {11},
    "forgotten by the reaper": {12},
    "late": {13},
    "told nobody": {14},
}


def jobs(farm: FarmDatabase) -> dict[str, UUID]:
    """A job of each kind."""
    done = farm.claimed(webhook=HOOK)
    farm.finish(done)
    retried = farm.claimed().id
    farm.finish(farm.claimed(farm.shared()))
    farm.store.fail(retried, 1, Failure("x", "y", transient=True), 3)
    return {
        "queued": farm.queued(),
        "running": farm.claimed().id,
        "done": done.id,
        "cached": farm.shared(),
        "retried": retried,
    }


def test_honest_records_have_no_problems(farm: FarmDatabase) -> None:
    """What the statements wrote passes every invariant."""
    jobs(farm)
    assert audit(farm.engine) == []


@pytest.mark.parametrize("breach", BREACHES)
def test_a_planted_breach_is_found(farm: FarmDatabase, breach: str) -> None:
    """The audit names the invariants that the breach breaks, no others, and the job at fault."""
    kind, statement = BREACHES[breach]
    job_id = jobs(farm)[kind]
    farm.forge(statement, id=job_id)
    names = list(INVARIANTS)
    found = audit(farm.engine)
    assert {names.index(breach.invariant) for breach in found} == EXPECTED[breach]
    assert {i for breach in found for i in breach.job_ids} == {str(job_id)}


def test_every_invariant_is_seen_to_fail() -> None:
    """No invariant is there that no planted breach has broken."""
    assert set().union(*EXPECTED.values()) == set(range(len(INVARIANTS)))
    assert EXPECTED.keys() == BREACHES.keys()
