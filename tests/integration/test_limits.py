"""What a tenant may ask for, held to the last place whoever asks at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from app.errors import OverQuota
from app.jobs.store import Store
from app.tenants import limits, tenants
from app.tenants.limits import COUNT_VALID_S, UNCOUNTED_JOBS, Quota, margin
from tests.integration.records import LEASE_S, FarmDatabase

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.tenants.tenants import Tenant


def test_two_at_once_do_not_both_get_the_last_place(farm: FarmDatabase, engine: Engine) -> None:
    """Of many who submit at the same moment, from several processes, just so many are taken."""
    stores = [Store(engine) for _ in range(4)]  # each knows nothing of the others, as processes do
    gate = threading.Barrier(16)
    new = [farm.new() for _ in range(16)]

    def submit(n: int) -> bool:
        gate.wait()
        try:
            stores[n % 4].insert([new[n]], 5)
        except OverQuota:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        taken = sum(pool.map(submit, range(16)))
    assert taken == 5
    assert len(farm.rows("SELECT id FROM jobs")) == 5


class Clock:
    """Time as the test sets it."""

    now_s = 100.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now_s


def test_far_from_the_limit_a_count_is_trusted_for_a_moment(
    farm: FarmDatabase, engine: Engine
) -> None:
    """A long backlog is not counted for each submission; close to the limit it is."""
    clock = Clock()
    quota, tenant, most = Quota(clock), farm.tenant.id, 10_000
    with engine.begin() as connection:
        assert quota.enter(connection, tenant, most, 1)
        quota.check(connection, tenant, most)
        assert quota.enter(connection, tenant, most, UNCOUNTED_JOBS + 1), "too many at once"
        for _ in range((most - margin(most)) // UNCOUNTED_JOBS):
            assert not quota.enter(connection, tenant, most, UNCOUNTED_JOBS)
        assert quota.enter(connection, tenant, most, 1), "what was added since counts"
        quota.check(connection, tenant, most)
        assert not quota.enter(connection, tenant, most, 1)
        clock.now_s += COUNT_VALID_S + 1000
        assert quota.enter(connection, tenant, most, 1), "the count is old"
        assert quota.enter(connection, tenant, 1000, 1), "a small limit is always close"


def test_a_full_tenant_is_refused_without_counting(farm: FarmDatabase) -> None:
    """For a moment after a refusal no more is counted, and repeats are answered all the same."""
    farm.insert(farm.new("a"), max_queued=1)
    farm.store._quota = Quota(clock := Clock())
    with pytest.raises(OverQuota):
        farm.insert(farm.new("b"), max_queued=1)
    farm.claimed(farm.rows("SELECT id FROM jobs")[0]["id"])
    with pytest.raises(OverQuota):
        farm.insert(farm.new("b"), max_queued=1)
    assert not farm.insert(farm.new("a"), max_queued=1)[0].created
    clock.now_s += limits.FULL_S + 0.1
    assert farm.insert(farm.new("b"), max_queued=1)[0].created


def test_no_more_run_than_may(farm: FarmDatabase) -> None:
    """However many are claimed at once, `max_running` holds, and other tenants do not notice."""
    farm.execute("UPDATE tenants SET max_running = 3 WHERE id = :i", i=farm.tenant.id)
    jobs = [farm.queued() for _ in range(10)]
    gate = threading.Barrier(10)

    def claim(n: int) -> bool:
        gate.wait()
        return farm.store.claim(jobs[n], "w", LEASE_S) is not None

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(claim, range(10))) == 3
    assert farm.breaches() == []
    theirs = farm.insert(farm.new(tenant=farm.other))[0].row["id"]
    assert farm.store.claim(theirs, "w", LEASE_S)
    (first, *_) = farm.rows("SELECT id FROM jobs WHERE status = 'running' ORDER BY id")
    farm.store.cancel(first["id"], farm.tenant.id)
    waiting = farm.rows("SELECT id FROM jobs WHERE status = 'queued'")[0]["id"]
    assert farm.store.claim(waiting, "w", LEASE_S)


def limited(farm: FarmDatabase, **columns: float) -> Tenant:
    """The tenant with such limits."""
    for name, value in columns.items():
        farm.execute(f"UPDATE tenants SET {name} = :v WHERE id = :i", v=value, i=farm.tenant.id)  # noqa: S608
    return tenants.find_by_name(farm.engine, farm.tenant.name)


def test_requests_a_second_are_counted_over_all_processes(
    farm: FarmDatabase, engine: Engine
) -> None:
    """A second's worth of requests passes at once, and then one each time its share is over."""
    tenant = limited(farm, max_requests_per_s=0.001)
    limits.spend_request(engine, tenant)
    with pytest.raises(OverQuota) as caught:
        limits.spend_request(engine, tenant)
    assert caught.value.retry_after_s == 1000
    farm.execute("UPDATE rates SET full_at = now()")
    limits.spend_request(engine, tenant)
    quick = limited(farm, max_requests_per_s=1000)
    farm.execute("UPDATE rates SET full_at = now()")
    for _ in range(50):
        limits.spend_request(engine, quick)


def test_who_has_no_limit_is_not_counted(farm: FarmDatabase, engine: Engine) -> None:
    """A tenant without a rate leaves no trace of its requests."""
    limits.spend_request(engine, farm.tenant)
    limits.check_day(engine, farm.tenant)
    assert farm.rows("SELECT * FROM rates") == []


def test_a_days_gpu_seconds_end(farm: FarmDatabase, engine: Engine) -> None:
    """What was used today counts, added up or not; yesterday's does not."""
    tenant = limited(farm, max_gpu_seconds_per_day=0.6)
    farm.finish(farm.claimed())
    farm.finish(farm.claimed())
    limits.check_day(engine, tenant)
    farm.finish(farm.claimed())
    with pytest.raises(OverQuota, match="GPU-seconds") as caught:
        limits.check_day(engine, tenant)
    assert 0 < caught.value.retry_after_s <= 86_400
    farm.execute("UPDATE usage_entries SET day = day - 1")
    limits.check_day(engine, tenant)


def test_limits_can_be_none(farm: FarmDatabase) -> None:
    """A tenant is made without any but `max_queued`."""
    wanted = replace(farm.tenant, max_requests_per_s=None, max_gpu_seconds_per_day=None, cache=True)
    assert farm.tenant == wanted
