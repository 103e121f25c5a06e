"""Submissions become jobs, one for each idempotency key, in a real Postgres."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from app.errors import IdempotencyConflict, OverQuota
from tests.integration.racing import at_once
from tests.waiting import until

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.records import FarmDatabase

pytestmark = pytest.mark.usefixtures("audited")


def test_a_submission_becomes_a_queued_job(farm: FarmDatabase) -> None:
    """The new row has the request's fields and status `queued`, and one `queued` event."""
    new = farm.new(priority=5, deadline_s=90.5)
    (stored,) = farm.insert(new)
    row = stored.row
    assert stored.created
    assert (row["id"], row["status"], row["attempt"], row["steps"]) == (new.id, "queued", 0, 10)
    assert (row["request"], row["model"], row["priority"]) == (new.request, "null", 5)
    assert row["deadline_at"] - row["created_at"] == timedelta(seconds=90.5)
    assert farm.events(new.id) == ["queued"]


def test_a_repeat_answers_with_the_first_job(farm: FarmDatabase) -> None:
    """A repeat of a key with the same body returns the same job, even after the job succeeded."""
    (first,) = farm.insert(farm.new("k"))
    farm.finish(farm.claimed(first.row["id"]))
    (again,) = farm.insert(farm.new("k"))
    assert not again.created
    assert (again.row["id"], again.row["status"]) == (first.row["id"], "succeeded")
    assert farm.events(first.row["id"]).count("queued") == 1


def test_the_same_key_with_another_body_names_both_hashes(farm: FarmDatabase) -> None:
    """A key with another body is a conflict, which names both hashes and stores nothing."""
    (first,) = farm.insert(farm.new("k"))
    other = farm.new("k")
    other = replace(other, request_hash=bytes(32))
    with pytest.raises(IdempotencyConflict) as caught:
        farm.insert(other)
    assert bytes(32).hex() in caught.value.detail
    assert bytes(first.row["request_hash"]).hex() in caught.value.detail
    assert len(farm.rows("SELECT id FROM jobs")) == 1


def test_tenants_have_their_own_keys(farm: FarmDatabase) -> None:
    """Two tenants may use the same key for different jobs."""
    one, other = farm.insert(farm.new("k")), farm.insert(farm.new("k", farm.other))
    assert one[0].row["id"] != other[0].row["id"]
    assert other[0].created


def test_the_id_of_another_tenants_job_is_refused(farm: FarmDatabase) -> None:
    """The refusal does not name the other tenant, and the other tenant's job does not change."""
    job_id = farm.queued()
    theirs = farm.new(tenant=farm.other)
    stolen = replace(theirs, id=job_id, idempotency_key=str(job_id), request_hash=bytes(32))
    with pytest.raises(IdempotencyConflict, match="in use") as caught:
        farm.insert(stolen)
    assert farm.tenant.name not in str(caught.value)
    assert farm.job(job_id)["tenant_id"] == farm.tenant.id


def test_a_batch_is_stored_whole_or_not_at_all(farm: FarmDatabase) -> None:
    """One conflict in a batch means that none of the batch is stored."""
    farm.insert(farm.new("taken"))
    bad = farm.new("taken")
    bad = replace(bad, request_hash=bytes(32))
    with pytest.raises(IdempotencyConflict):
        farm.insert(farm.new("a"), bad, farm.new("b"))
    assert [row["idempotency_key"] for row in farm.rows("SELECT * FROM jobs")] == ["taken"]
    assert len(farm.rows("SELECT * FROM events")) == 1


def test_a_batch_answers_in_its_order(farm: FarmDatabase) -> None:
    """Results are in the order of the submissions, existing and new jobs mixed."""
    farm.insert(farm.new("m"))
    keys = ["z", "m", "a", "q"]
    answers = farm.insert(*(farm.new(key) for key in keys))
    assert [answer.row["idempotency_key"] for answer in answers] == keys
    assert [answer.created for answer in answers] == [True, False, True, True]


def test_a_batch_that_names_one_key_twice_makes_one_job(farm: FarmDatabase) -> None:
    """Two submissions with one key in one batch create one job."""
    answers = farm.insert(farm.new("k"), farm.new("k"))
    assert len({answer.row["id"] for answer in answers}) == 1
    assert sorted(answer.created for answer in answers) == [False, True]


def test_max_queued_limits_queued_jobs(farm: FarmDatabase) -> None:
    """Over the limit nothing is stored; a repeat passes, and so does another tenant's job."""
    farm.insert(farm.new("a"), farm.new("b"), max_queued=2)
    with pytest.raises(OverQuota):
        farm.insert(farm.new("c"), max_queued=2)
    assert len(farm.rows("SELECT id FROM jobs")) == 2
    assert not farm.insert(farm.new("a"), max_queued=2)[0].created
    assert farm.insert(farm.new("c", farm.other), max_queued=2)[0].created
    farm.claimed(farm.rows("SELECT id FROM jobs WHERE idempotency_key = 'a'")[0]["id"])
    until(lambda: not farm.store._quota.full(farm.tenant.id))
    assert farm.insert(farm.new("c"), max_queued=2)[0].created


def test_fifty_parallel_submissions_of_one_key_make_one_job(farm: FarmDatabase) -> None:
    """Fifty simultaneous submissions of one key return the same job, and one of them created it."""
    new = [farm.new("k") for _ in range(50)]
    answers = at_once(50, lambda n: farm.insert(new[n])[0])
    assert len({answer.row["id"] for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1


def test_parallel_batches_of_the_same_keys_do_not_block_each_other(farm: FarmDatabase) -> None:
    """Batches with the same keys in different orders do not deadlock, and make one job per key."""
    keys = [f"k{n}" for n in range(20)]

    def work(n: int) -> list[UUID]:
        order = keys[n:] + keys[:n] if n % 2 else list(reversed(keys))
        return [a.row["id"] for a in farm.insert(*(farm.new(key) for key in order))]

    answers = at_once(8, work)
    assert len({job_id for ids in answers for job_id in ids}) == 20
