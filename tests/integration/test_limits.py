"""Limits of a tenant hold exactly, also when many threads submit at the same time."""

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
    """Of simultaneous submissions from several processes, exactly `max_queued` are accepted."""
    stores = [Store(engine) for _ in range(4)]  # as in four processes: they share no memory
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
    """A clock that the test sets."""

    now_s = 100.0

    def __call__(self) -> float:
        """The current time in seconds."""
        return self.now_s


def test_far_from_the_limit_a_count_is_trusted_for_a_moment(
    farm: FarmDatabase, engine: Engine
) -> None:
    """Far from the limit, submissions use the last count; close to it, each submission counts."""
    clock = Clock()
    quota, tenant, most = Quota(clock), farm.tenant.id, 10_000
    with engine.begin() as connection:
        assert quota.enter(connection, tenant, most, 1)
        quota.check(connection, tenant, most)
        assert quota.enter(connection, tenant, most, UNCOUNTED_JOBS + 1), "too many at once"
        for _ in range((most - margin(most)) // UNCOUNTED_JOBS):
            assert not quota.enter(connection, tenant, most, UNCOUNTED_JOBS)
        assert quota.enter(connection, tenant, most, 1), (
            "jobs added since the last count bring the limit close"
        )
        quota.check(connection, tenant, most)
        assert not quota.enter(connection, tenant, most, 1)
        clock.now_s += COUNT_VALID_S + 1000
        assert quota.enter(connection, tenant, most, 1), "the count is old"
        assert quota.enter(connection, tenant, 1000, 1), "a small limit is always close"


def test_a_full_tenant_is_refused_without_counting(farm: FarmDatabase) -> None:
    """For FULL_S after a refusal, new jobs are refused without a count; repeats are answered."""
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


def test_simultaneous_claims_respect_max_running(farm: FarmDatabase) -> None:
    """`max_running` holds for simultaneous claims, and does not affect other tenants."""
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
    """The tenant with these limits set."""
    for name, value in columns.items():
        farm.execute(f"UPDATE tenants SET {name} = :v WHERE id = :i", v=value, i=farm.tenant.id)  # noqa: S608
    return tenants.find_by_name(farm.engine, farm.tenant.name)


def test_requests_a_second_are_counted_over_all_processes(
    farm: FarmDatabase, engine: Engine
) -> None:
    """A burst of one second's requests passes; then one request passes after each share of time."""
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


def test_requests_without_a_rate_limit_are_not_counted(farm: FarmDatabase, engine: Engine) -> None:
    """The requests of a tenant without a rate limit write nothing to the database."""
    limits.spend_request(engine, farm.tenant)
    limits.check_day(engine, farm.tenant)
    assert farm.rows("SELECT * FROM rates") == []


def test_gpu_seconds_are_limited_by_the_day(farm: FarmDatabase, engine: Engine) -> None:
    """Today's usage counts, added up or not; yesterday's usage does not."""
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
    """A new tenant has no limit except `max_queued`."""
    wanted = replace(farm.tenant, max_requests_per_s=None, max_gpu_seconds_per_day=None, cache=True)
    assert farm.tenant == wanted
