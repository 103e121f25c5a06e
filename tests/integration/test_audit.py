"""The audit finds each planted violation of an invariant, and nothing in a sound database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.jobs.audit import INVARIANTS, audit
from app.jobs.records import Failure

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.records import FarmDatabase

HOOK = {"url": "https://a.test/hook", "events": ["job.succeeded"]}
END_AS = "UPDATE jobs SET finished_at = now(), lease_until = NULL, status = "
ADD_EVENT = "INSERT INTO events (job_id, attempt, type) VALUES "

# By the name of a violation: the job that it is planted in (see `jobs`), and the statement.
BREACHES: dict[str, tuple[str, str]] = {
    "ended without a final event": ("running", END_AS + "'cancelled' WHERE id = :id"),
    "ended with another event than its status": ("done", END_AS + "'cancelled' WHERE id = :id"),
    "has a final event while it runs": ("running", ADD_EVENT + "(:id, 1, 'expired')"),
    "has no queued event": ("queued", "DELETE FROM events WHERE job_id = :id"),
    "has two queued events": ("queued", ADD_EVENT + "(:id, 0, 'queued')"),
    "has no running event": (
        "running",
        "DELETE FROM events WHERE job_id = :id AND type = 'running'",
    ),
    "has two running events of one attempt": ("running", ADD_EVENT + "(:id, 1, 'running')"),
    "has two ends of one attempt": ("retried", ADD_EVENT + "(:id, 1, 'released')"),
    "lost its image": ("done", "DELETE FROM images WHERE job_id = :id"),
    "has an image of an older attempt": (
        "done",
        "UPDATE images SET key = replace(key, '/1/', '/0/') WHERE job_id = :id",
    ),
    "has an image too early": (
        "running",
        "INSERT INTO images VALUES (:id, 0, 'k', 1, 1, 't', 1, repeat('a', 64), 0)",
    ),
    "has more releases than events": (
        "running",
        "UPDATE jobs SET releases = 1 WHERE id = :id",
    ),
    "has more failures than events": ("running", "UPDATE jobs SET failures = 1 WHERE id = :id"),
    "has more crashes than events": ("running", "UPDATE jobs SET crashes = 1 WHERE id = :id"),
    "rescued without a crash": ("retried", "UPDATE events SET type = 'rescued' WHERE job_id = :id AND type = 'retried'"),
    "has a lease that ended long ago": (
        "running",
        "UPDATE jobs SET lease_until = now() - interval '31 s' WHERE id = :id",
    ),
    "has a deadline that passed long ago": ("queued", "UPDATE jobs SET deadline_at = now() - interval '31 s' WHERE id = :id"),
    "has no webhook in the outbox": ("done", "DELETE FROM outbox WHERE job_id = :id"),
    "was answered from the cache without an image": ("cached", "DELETE FROM images WHERE job_id = :id"),
    "has images although they aged out": ("done", "UPDATE jobs SET images_gone_at = now() WHERE id = :id"),
    "is not counted in the usage": ("cached", "DELETE FROM usage_entries WHERE cached AND :id IS NOT NULL"),
    "runs over its tenant's limit": ("running", "UPDATE tenants SET max_running = 0 WHERE :id IS NOT NULL"),
}  # fmt: skip
EXPECTED: dict[str, set[int]] = {
    "ended without a final event": {0},
    "ended with another event than its status": {0, 10},
    "has a final event while it runs": {1},
    "has no queued event": {2},
    "has two queued events": {2},
    "has no running event": {3},
    "has two running events of one attempt": {3},
    "has two ends of one attempt": {4, 11},
    "lost its image": {5},
    "has an image of an older attempt": {5},
    "was answered from the cache without an image": {6},
    "has images although they aged out": {7},
    "is not counted in the usage": {8},
    "runs over its tenant's limit": {9},
    "has an image too early": {10},
    "has more releases than events": {11},
    "has more failures than events": {11},
    "has more crashes than events": {11},
    "rescued without a crash": {11},
    "has a lease that ended long ago": {12},
    "has a deadline that passed long ago": {13},
    "has no webhook in the outbox": {14},
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


def test_a_sound_database_has_no_breaches(farm: FarmDatabase) -> None:
    """A database that only the store has written violates no invariant."""
    jobs(farm)
    assert audit(farm.engine) == []


@pytest.mark.parametrize("breach", BREACHES)
def test_a_planted_breach_is_found(farm: FarmDatabase, breach: str) -> None:
    """The audit names exactly the invariants that are violated, and the job that violates them."""
    kind, statement = BREACHES[breach]
    job_id = jobs(farm)[kind]
    farm.forge(statement, id=job_id)
    names = list(INVARIANTS)
    found = audit(farm.engine)
    assert {names.index(breach.invariant) for breach in found} == EXPECTED[breach]
    assert {i for breach in found for i in breach.job_ids} == {str(job_id)}


def test_every_invariant_has_a_planted_breach() -> None:
    """For each invariant, at least one planted breach violates it."""
    assert set().union(*EXPECTED.values()) == set(range(len(INVARIANTS)))
    assert EXPECTED.keys() == BREACHES.keys()
