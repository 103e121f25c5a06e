"""A model of a job's life, for random histories: what the database must contain after each move.

Hypothesis makes the histories (model-based testing); each rule makes one move in a real Postgres.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from app.errors import IdempotencyConflict
from app.jobs.records import Claim, Failure
from tests.integration.records import COSTS, LEASE_S, images

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.records import FarmDatabase

MAX = 3
"""Failures, and crashes, that a job may have."""
FINAL = {"succeeded", "failed", "cancelled", "expired"}
HICCUP = Failure("hiccup", "try later", transient=True)
BUG = Failure("bug", "never", transient=False)


class JobModel(RuleBasedStateMachine):
    """Random moves of jobs. `status`, `attempt` and `counts` are the expected rows.

    `counts` has failures, crashes and releases. `lost` has jobs whose lease has ended, `late` those
    past their deadline, and `early` those whose retry is not due. Each history begins with a try to
    pass each guard of `random_histories.GUARDS`, so that no seed of Hypothesis leaves one out.
    """

    farm: FarmDatabase
    claims = Bundle("claims")
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.farm.reset()
        self.farm.__dict__.pop("tenant", None)
        self.farm.__dict__.pop("other", None)
        self.status: dict[UUID, str] = {}
        self.attempt: dict[UUID, int] = {}
        self.counts: dict[UUID, list[int]] = {}
        self.keys: dict[UUID, str] = {}
        self.lost: set[UUID] = set()
        self.late: set[UUID] = set()
        self.early: set[UUID] = set()

    @initialize(target=jobs)
    def begin_with_a_job(self) -> UUID:
        """Begin with a queued job."""
        return self.submit_one()

    @initialize(target=claims)
    def begin_with_a_claim(self) -> Claim:
        """Begin with a running job, which no other worker can claim and no other tenant cancel."""
        claim = self.claim_twice(self.submit_one())
        self.cancel_as(claim.id, own=False)
        return claim

    @initialize(target=claims)
    def begin_with_a_lost_claim(self) -> Claim:
        """Begin with a lost job that another worker has claimed, next to a running job."""
        self.claim_one(self.submit_one())
        claim = self.claim_one(self.submit_one())
        self.lose_and_claim_again(claim)
        return claim

    @initialize(target=jobs)
    def begin_with_a_retry(self) -> UUID:
        """Begin with a job whose retry is not due."""
        claim = self.claim_one(self.submit_one())
        self.fail_as(claim, transient=True)
        return claim.id

    @initialize(target=jobs)
    def begin_late(self) -> UUID:
        """Begin with a job past its deadline."""
        job_id = self.submit_one()
        self.outdate_one(job_id)
        return job_id

    @rule(target=jobs)
    def submit(self) -> UUID:
        """Submit a new job."""
        return self.submit_one()

    def submit_one(self) -> UUID:
        """Submit a new job; returns its id."""
        new = self.farm.new()
        (stored,) = self.farm.insert(new)
        assert stored.created
        self.status[new.id], self.attempt[new.id] = "queued", 0
        self.counts[new.id], self.keys[new.id] = [0, 0, 0], new.idempotency_key
        return new.id

    @rule(job_id=jobs, same=st.booleans())
    def submit_again(self, job_id: UUID, same: bool) -> None:  # noqa: FBT001
        """Submit an existing key: the same body returns the job, another body is a conflict."""
        new = self.farm.new(self.keys[job_id])
        if not same:
            new = replace(new, request_hash=bytes(32))
        try:
            (stored,) = self.farm.insert(new)
        except IdempotencyConflict:
            assert not same
        else:
            assert same
            assert (stored.row["id"], stored.created) == (job_id, False)

    @rule(target=claims, job_id=jobs)
    def claim(self, job_id: UUID) -> Claim:
        """Claim a job; a second claim at once returns none."""
        return self.claim_twice(job_id)

    def claim_twice(self, job_id: UUID) -> Claim:
        """Claim a job, and check that a second claim returns none."""
        claim = self.claim_one(job_id)
        assert self.farm.store.claim(job_id, "v", LEASE_S) is None, "claimed twice"
        return claim

    def claim_one(self, job_id: UUID) -> Claim:
        """Claim a job, which succeeds exactly if it is queued, due and not past its deadline."""
        claimable = self.status[job_id] == "queued" and job_id not in self.late | self.early
        claim = self.farm.store.claim(job_id, "w", LEASE_S)
        assert (claim is not None) == claimable, "claimed a job that was not claimable, or not one"
        if claim is None:  # a stale claim, of an attempt that the worker does not hold
            row = self.farm.job(job_id)
            old = max(1, row["attempt"] - 1)
            return Claim(job_id, row["tenant_id"], old, row["request"], exclusive=False)
        self.status[job_id] = "running"
        self.attempt[job_id] += 1
        assert claim.attempt == self.attempt[job_id]
        assert claim.exclusive == (self.counts[job_id][1] > 0)
        return claim

    def holds(self, claim: Claim) -> bool:
        """Whether the claim is the job's present attempt."""
        now = (self.status[claim.id], self.attempt[claim.id])
        return now == ("running", claim.attempt)

    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        """Renew a lease, which succeeds exactly for the present attempt."""
        held = self.farm.store.renew({(claim.id, claim.attempt): 1}, LEASE_S)
        assert bool(held) == self.holds(claim)
        if held:
            self.lost.discard(claim.id)

    @rule(claim=claims)
    def succeed(self, claim: Claim) -> None:
        """Report success, which succeeds exactly for the present attempt."""
        done = self.farm.store.succeed(claim.id, claim.attempt, images(claim), COSTS)
        assert done == self.holds(claim)
        self.end(claim.id, "succeeded", done=done)

    @rule(claim=claims, transient=st.booleans())
    def fail(self, claim: Claim, transient: bool) -> None:  # noqa: FBT001
        """Report a failure, which is retried if it is transient and budget remains."""
        self.fail_as(claim, transient=transient)

    def fail_as(self, claim: Claim, *, transient: bool) -> None:
        """Report a failure; a job that waits for its retry cannot be claimed."""
        failure = HICCUP if transient else BUG
        event = self.farm.store.fail(claim.id, claim.attempt, failure, MAX)
        assert (event is not None) == self.holds(claim)
        if event is None:
            return
        self.counts[claim.id][0] += 1
        spent = not transient or self.counts[claim.id][0] >= MAX
        assert event == ("failed" if spent else "retried")
        if spent:
            self.end(claim.id, "failed", done=True)
        else:
            self.status[claim.id] = "queued"
            self.early.add(claim.id)
            self.lost.discard(claim.id)
            assert self.farm.store.claim(claim.id, "w", LEASE_S) is None, (
                "claimed before its retry was due"
            )

    @rule(claim=claims)
    def release(self, claim: Claim) -> None:
        """Release an attempt, as a drained worker does."""
        done = self.farm.store.release(claim.id, claim.attempt)
        assert done == self.holds(claim)
        if done:
            self.status[claim.id] = "queued"
            self.counts[claim.id][2] += 1
            self.lost.discard(claim.id)

    @rule(job_id=jobs, own=st.booleans())
    def cancel(self, job_id: UUID, own: bool) -> None:  # noqa: FBT001
        """Cancel a job, which succeeds exactly for the job's own tenant."""
        self.cancel_as(job_id, own=own)

    def cancel_as(self, job_id: UUID, *, own: bool) -> None:
        """Cancel a job as its own tenant or as another."""
        tenant = self.farm.tenant if own else self.farm.other
        done = self.farm.store.cancel(job_id, tenant.id)
        assert done == (own and self.status[job_id] not in FINAL)
        self.end(job_id, "cancelled", done=done)

    @rule(job_id=jobs)
    def wait_out(self, job_id: UUID) -> None:
        """Let a retry become due."""
        self.farm.execute(
            "UPDATE jobs SET run_after = now() WHERE id = :i AND status = 'queued'", i=job_id
        )
        if self.status[job_id] == "queued":
            self.early.discard(job_id)

    @rule(claim=claims)
    def lose(self, claim: Claim) -> None:
        """Let a lease end, because its worker does not renew it."""
        if self.status[claim.id] == "running":
            self.farm.lose(claim.id)
            self.lost.add(claim.id)

    @rule(job_id=jobs)
    def outdate(self, job_id: UUID) -> None:
        """Let a job's deadline pass."""
        self.outdate_one(job_id)

    def outdate_one(self, job_id: UUID) -> None:
        """Let a deadline pass; the job cannot be claimed after it."""
        if self.status[job_id] not in FINAL:
            self.farm.outdate(job_id)
            self.late.add(job_id)
            assert self.farm.store.claim(job_id, "w", LEASE_S) is None, "claimed when it was late"

    @rule()
    def rescue(self) -> None:
        """Run the reaper, which rescues exactly the lost jobs."""
        lost = {i for i in self.lost if self.status[i] == "running"}
        assert set(self.farm.store.rescue(MAX)) == lost
        for job_id in lost:
            self.counts[job_id][1] += 1
            self.status[job_id] = "queued"
            if self.counts[job_id][1] >= MAX:
                self.status[job_id] = "failed"
        self.lost.clear()

    @rule(claim=claims)
    def lose_and_claim_again(self, claim: Claim) -> None:
        """Claim a lost job in another worker; every write of the first worker is rejected."""
        if not self.holds(claim) or claim.id in self.late:
            return
        self.lose(claim)
        self.rescue()
        if self.status[claim.id] == "queued":
            self.early.discard(claim.id)
            self.farm.execute("UPDATE jobs SET run_after = now() WHERE id = :i", i=claim.id)
            again = self.farm.store.claim(claim.id, "v", LEASE_S)
            assert again is not None
            self.status[claim.id] = "running"
            self.attempt[claim.id] += 1
            assert not self.farm.store.renew({(claim.id, claim.attempt): 1}, LEASE_S)
            assert not self.farm.store.release(claim.id, claim.attempt)
            assert self.farm.store.fail(claim.id, claim.attempt, HICCUP, MAX) is None
            assert self.farm.store.fail(claim.id, claim.attempt, BUG, MAX) is None
            assert not self.farm.store.succeed(claim.id, claim.attempt, images(claim), COSTS)

    @rule()
    def expire(self) -> None:
        """Run the reaper, which expires exactly the jobs past their deadline."""
        late = {i for i in self.late if self.status[i] not in FINAL}
        assert set(self.farm.store.expire()) == late
        for job_id in late:
            self.end(job_id, "expired", done=True)
        self.late.clear()

    def end(self, job_id: UUID, status: str, *, done: bool) -> None:
        """Record a final state in the model."""
        if done:
            self.status[job_id] = status
            self.lost.discard(job_id)
            self.late.discard(job_id)

    @invariant()
    def the_database_equals_the_model(self) -> None:
        """Status, attempt and counts of every job are those of the model."""
        rows = self.farm.rows("SELECT * FROM jobs")
        found = {r["id"]: (r["status"], r["attempt"]) for r in rows}
        assert found == {i: (s, self.attempt[i]) for i, s in self.status.items()}
        counts = {r["id"]: [r["failures"], r["crashes"], r["releases"]] for r in rows}
        assert counts == self.counts

    def teardown(self) -> None:
        """After a last run of the reaper, the audit finds no breach."""
        self.rescue()
        self.expire()
        assert self.farm.breaches() == []
