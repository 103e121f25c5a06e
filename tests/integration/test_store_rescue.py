"""Release, rescue, expiry and cancel of jobs, in a real Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.ids import new_id
from tests.integration.racing import at_once
from tests.integration.records import MAX

if TYPE_CHECKING:
    from tests.integration.records import FarmDatabase

pytestmark = pytest.mark.usefixtures("audited")


def test_a_release_costs_the_job_nothing(farm: FarmDatabase) -> None:
    """A job released many times is due, without a hint, and has used up no budget."""
    job_id = farm.queued()
    for attempt in range(1, 6):
        claim = farm.claimed(job_id)
        assert not claim.exclusive
        assert farm.store.release(job_id, attempt)
    row = farm.job(job_id)
    assert (row["releases"], row["failures"], row["crashes"]) == (5, 0, 0)
    assert (row["hinted_at"], row["step"]) == (None, 0)


def test_a_lost_job_is_queued_again_and_then_runs_exclusively(farm: FarmDatabase) -> None:
    """A lease that ran out counts as a crash, and the next attempt is exclusive."""
    lost, held = farm.claimed(), farm.claimed()
    farm.lose(lost.id)
    assert farm.store.rescue(MAX) == [lost.id]
    row = farm.job(lost.id)
    assert (row["status"], row["crashes"], row["hinted_at"]) == ("queued", 1, None)
    assert farm.state(held.id) == ("running", 1)
    assert farm.claimed(lost.id).exclusive
    assert farm.events(lost.id) == ["queued", "running", "rescued", "running"]


def test_a_spent_crash_budget_ends_the_job(farm: FarmDatabase) -> None:
    """A job that loses its worker three times fails with `worker_lost`."""
    job_id = farm.queued()
    for _ in range(MAX):
        farm.claimed(job_id)
        farm.lose(job_id)
        assert farm.store.rescue(MAX) == [job_id]
    row = farm.job(job_id)
    assert (row["status"], row["crashes"]) == ("failed", 3)
    assert row["error"]["code"] == "worker_lost"
    assert "3 times" in row["error"]["message"]
    assert farm.store.rescue(MAX) == []


def test_many_reapers_take_each_lost_job_once(farm: FarmDatabase) -> None:
    """Of reapers that run at the same time, exactly one rescues each lost job."""
    claims = [farm.claimed() for _ in range(30)]
    for claim in claims:
        farm.lose(claim.id)
    rescued = at_once(6, lambda _: farm.store.rescue(MAX, limit=10))
    rescued.append(farm.store.rescue(MAX))
    ids = [job_id for found in rescued for job_id in found]
    assert sorted(ids) == sorted(claim.id for claim in claims)


def test_deadlines_end_queued_and_running_jobs(farm: FarmDatabase) -> None:
    """Queued and running jobs past their deadline expire; other jobs do not."""
    waits, runs, ahead = farm.queued(), farm.claimed().id, farm.queued()
    farm.outdate(waits)
    farm.outdate(runs)
    assert set(farm.store.expire()) == {waits, runs}
    assert [farm.job(i)["status"] for i in (waits, runs, ahead)] == ["expired", "expired", "queued"]
    assert farm.events(runs)[-1] == "expired"


def test_a_limit_bounds_each_round(farm: FarmDatabase) -> None:
    """One statement moves at most `limit` jobs; the next statement moves the rest."""
    for claim in [farm.claimed() for _ in range(5)]:
        farm.lose(claim.id)
    assert len(farm.store.rescue(MAX, limit=3)) == 3
    assert len(farm.store.rescue(MAX, limit=3)) == 2
    for row in farm.rows("SELECT id FROM jobs"):
        farm.outdate(row["id"])
    assert len(farm.store.expire(limit=4)) == 4
    assert len(farm.store.expire(limit=4)) == 1


def test_a_tenant_cancels_its_own_jobs_and_no_others(farm: FarmDatabase) -> None:
    """A cancel ends the tenant's own queued or running job once, and no other tenant's job."""
    waits, runs = farm.queued(), farm.claimed().id
    for job_id in (waits, runs):
        assert not farm.store.cancel(job_id, farm.other.id)
        assert farm.store.cancel(job_id, farm.tenant.id)
        assert not farm.store.cancel(job_id, farm.tenant.id)
        assert farm.events(job_id)[-1] == "cancelled"
    assert not farm.store.cancel(new_id(), farm.tenant.id)


def test_of_many_cancels_one_counts(farm: FarmDatabase) -> None:
    """Of simultaneous cancels of one job, exactly one succeeds."""
    claim = farm.claimed()
    assert sum(at_once(10, lambda _: farm.store.cancel(claim.id, farm.tenant.id))) == 1
