"""Usage is written with a job's success, added up later, and outlives the job."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from app.tenants import usage
from app.tenants.usage import Span

if TYPE_CHECKING:
    from tests.integration.records import FarmDatabase


def spend(farm: FarmDatabase) -> None:
    """Make three jobs of one tenant, one of them from the cache, and one job of another tenant."""
    farm.finish(farm.claimed(num_images=2))
    farm.finish(farm.claimed(farm.shared(model="other")))
    farm.shared(model="other")
    theirs = farm.insert(farm.new(tenant=farm.other))[0].row["id"]
    farm.finish(farm.claimed(theirs))


@pytest.mark.parametrize("added_up", [False, True])
def test_a_report_sums_succeeded_jobs(farm: FarmDatabase, added_up: bool) -> None:  # noqa: FBT001
    """A report has the same sums by tenant, model and day before and after entries are added up."""
    spend(farm)
    if added_up:
        assert usage.add_up(farm.engine) == 4
        assert farm.rows("SELECT * FROM usage_entries") == []
    by_tenant = usage.report(farm.engine, ["tenant"])
    assert [(r["tenant"], r["jobs"], r["images"], r["cached"]) for r in by_tenant] == [
        ("ann", 3, 4, 1), ("ben", 1, 1, 0),
    ]  # fmt: skip
    (mine,) = usage.report(farm.engine, tenant=farm.tenant.id)
    assert (mine["gpu_seconds"], mine["cost_usd"]) == (0.5, pytest.approx(0.02))
    by_model = usage.report(farm.engine, ["model", "day"], tenant=farm.tenant.id)
    today = datetime.now(UTC).date()
    assert [(r["model"], r["day"], r["jobs"]) for r in by_model] == [
        ("null", today, 1), ("other", today, 2),
    ]  # fmt: skip


def test_a_span_includes_its_first_day_and_not_its_last(farm: FarmDatabase) -> None:
    """A span contains the day `since` and does not contain the day `until`."""
    farm.finish(farm.claimed())
    today = datetime.now(UTC).date()
    for span, jobs in (
        (Span(today, today + timedelta(days=1)), 1),
        (Span(today + timedelta(days=1)), 0),
        (Span(None, today), 0),
    ):
        assert usage.report(farm.engine, span=span)[0]["jobs"] == jobs


def test_only_succeeded_jobs_are_charged(farm: FarmDatabase) -> None:
    """Cancelled jobs and jobs that are not finished do not count as usage."""
    farm.store.cancel(farm.claimed().id, farm.tenant.id)
    farm.queued()
    assert usage.report(farm.engine)[0]["jobs"] == 0


def test_simultaneous_adders_count_each_entry_once(farm: FarmDatabase) -> None:
    """Threads that add up at the same time, while jobs succeed, count each entry exactly once."""
    for _ in range(40):
        farm.finish(farm.claimed())
    gate = threading.Barrier(6)

    def work(n: int) -> int:
        gate.wait()
        if n >= 4:
            for _ in range(5):
                farm.finish(farm.claimed())
            return 0
        return sum(usage.add_up(farm.engine, 3) for _ in range(20))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert usage.report(farm.engine)[0]["jobs"] == 50
    assert farm.breaches() == []
