"""Claims, renewals of leases, and hints, in a real Postgres."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from app.ids import new_id
from app.jobs.records import Claim
from tests.integration.racing import at_once
from tests.integration.records import LEASE_S

if TYPE_CHECKING:
    from tests.integration.records import FarmDatabase

pytestmark = pytest.mark.usefixtures("audited")


def test_a_claim_takes_the_job_and_its_lease(farm: FarmDatabase) -> None:
    """A claimed job is running as attempt 1 of that worker, with a lease of `lease_s`."""
    job_id = farm.queued()
    farm.store.hint([job_id])
    claim = farm.store.claim(job_id, "w", LEASE_S)
    row = farm.job(job_id)
    assert claim == Claim(job_id, farm.tenant.id, 1, row["request"], exclusive=False)
    assert (row["status"], row["attempt"], row["worker_id"]) == ("running", 1, "w")
    assert row["lease_until"] - row["started_at"] == timedelta(seconds=LEASE_S)
    assert row["hinted_at"] is None
    assert farm.events(job_id) == ["queued", "running"]


def test_one_of_many_claims_gets_the_job(farm: FarmDatabase) -> None:
    """Of simultaneous claims of one job, exactly one succeeds."""
    job_id = farm.queued()
    claims = at_once(12, lambda n: farm.store.claim(job_id, f"w{n}", LEASE_S))
    (claim,) = [claim for claim in claims if claim]
    assert claim.attempt == 1
    assert farm.events(job_id) == ["queued", "running"]


def test_a_job_that_is_not_due_or_does_not_exist_cannot_be_claimed(farm: FarmDatabase) -> None:
    """A job cannot be claimed before its retry is due, after its deadline, or when it is final."""
    waits, late, ended = farm.queued(), farm.queued(), farm.queued()
    farm.execute("UPDATE jobs SET run_after = now() + interval '1 h' WHERE id = :i", i=waits)
    farm.outdate(late)
    farm.store.cancel(ended, farm.tenant.id)
    for job_id in (waits, late, ended, new_id()):
        assert farm.store.claim(job_id, "w", LEASE_S) is None
    farm.store.expire()


def test_a_renewal_lengthens_the_lease_and_notes_the_step(farm: FarmDatabase) -> None:
    """The named jobs, and no others, get a new lease and their step."""
    one, two, idle = farm.claimed(), farm.claimed(), farm.claimed()
    before = farm.job(one.id)["lease_until"], farm.job(idle.id)["lease_until"]
    held = farm.store.renew({(one.id, 1): 3, (two.id, 1): 99}, 1000.0)
    assert held == {(one.id, 1), (two.id, 1)}
    after = farm.job(one.id)
    assert after["lease_until"] > before[0] + timedelta(seconds=900)
    assert (after["step"], farm.job(two.id)["step"]) == (3, 10)
    assert farm.job(idle.id)["lease_until"] == before[1]


def test_progress_never_goes_back(farm: FarmDatabase) -> None:
    """A renewal with a smaller step does not reduce the job's step."""
    claim = farm.claimed()
    farm.store.renew({(claim.id, 1): 5}, LEASE_S)
    farm.store.renew({(claim.id, 1): 0}, LEASE_S)
    assert farm.job(claim.id)["step"] == 5


def test_a_renewal_returns_only_attempts_that_are_held(farm: FarmDatabase) -> None:
    """Cancelled, finished and unknown jobs, and older attempts, are not renewed."""
    cancelled, done, old = farm.claimed(), farm.claimed(), farm.claimed()
    farm.store.cancel(cancelled.id, farm.tenant.id)
    farm.finish(done)
    farm.store.release(old.id, 1)
    new = farm.claimed(old.id)
    claims = [(cancelled.id, 1), (done.id, 1), (old.id, 1), (new_id(), 1), (old.id, new.attempt)]
    assert farm.store.renew(dict.fromkeys(claims, 0), LEASE_S) == {(old.id, 2)}


def test_nothing_held_is_nothing_renewed(farm: FarmDatabase) -> None:
    """A renewal of no attempts returns an empty set."""
    assert farm.store.renew({}, LEASE_S) == set()


def test_a_hint_is_noted_for_queued_jobs_only(farm: FarmDatabase) -> None:
    """Only queued jobs are hinted, and a hint changes no state."""
    waits, runs = farm.queued(), farm.claimed().id
    hinted = farm.store.hint([waits, runs, new_id()])
    assert [(row["id"], row["attempt"]) for row in hinted] == [(waits, 0)]
    assert farm.job(waits)["hinted_at"] is not None
    assert farm.events(waits) == ["queued"]
