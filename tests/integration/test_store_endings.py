"""A holder ends its attempt by success or failure, in a real Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import IntegrityError

from tests.integration.racing import at_once
from tests.integration.records import BUG, COSTS, HICCUP, LEASE_S, MAX, images

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.jobs.records import Claim
    from app.jobs.store import Store
    from tests.integration.records import FarmDatabase

pytestmark = pytest.mark.usefixtures("audited")


def test_success_comes_with_its_images_in_one_transaction(farm: FarmDatabase) -> None:
    """A success writes status, images, costs and event together."""
    claim = farm.claimed(num_images=2)
    assert farm.store.succeed(claim.id, claim.attempt, images(claim, 2), COSTS)
    row = farm.job(claim.id)
    assert (row["status"], row["step"], row["lease_until"]) == ("succeeded", 10, None)
    assert (row["render_s"], row["store_s"], row["gpu_seconds"]) == (0.5, 0.1, 0.25)
    found = farm.rows("SELECT * FROM images WHERE job_id = :i ORDER BY n", i=claim.id)
    assert [(image["n"], image["seed"]) for image in found] == [(0, 7), (1, 8)]
    assert farm.events(claim.id) == ["queued", "running", "succeeded"]


def test_images_that_cannot_be_written_leave_the_job_running(farm: FarmDatabase) -> None:
    """If the images cannot be inserted, the status does not change and no event is written."""
    claim = farm.claimed()
    with pytest.raises(IntegrityError):
        farm.store.succeed(claim.id, 1, images(claim) * 2, COSTS)
    assert farm.state(claim.id) == ("running", 1)
    assert farm.events(claim.id) == ["queued", "running"]


def endings(claim: Claim) -> list[Callable[[Store], Any]]:
    """Every call by which a holder ends, releases or renews its attempt."""
    return [
        lambda store: store.succeed(claim.id, claim.attempt, images(claim), COSTS),
        lambda store: store.fail(claim.id, claim.attempt, BUG, MAX),
        lambda store: store.fail(claim.id, claim.attempt, HICCUP, MAX),
        lambda store: store.fail(claim.id, claim.attempt, HICCUP, 1),
        lambda store: store.release(claim.id, claim.attempt),
        lambda store: store.renew({(claim.id, claim.attempt): 1}, LEASE_S),
    ]


@pytest.mark.parametrize("then", ["queued", "claimed again", "cancelled", "succeeded", "expired"])
def test_a_stale_attempt_changes_nothing(farm: FarmDatabase, then: str) -> None:
    """An old holder cannot end, release or renew a job that has moved on, in any state."""
    claim = farm.claimed()
    if then in {"queued", "claimed again"}:
        farm.lose(claim.id)
        farm.store.rescue(MAX)
    match then:
        case "claimed again":
            farm.claimed(claim.id)
        case "cancelled":
            farm.store.cancel(claim.id, farm.tenant.id)
        case "succeeded":
            farm.finish(claim)
        case "expired":
            farm.outdate(claim.id)
            farm.store.expire()
    before = farm.job(claim.id), farm.events(claim.id)
    for ending in endings(claim):
        assert not ending(farm.store)
    assert (farm.job(claim.id), farm.events(claim.id)) == before


@pytest.mark.parametrize("ending", range(5))
def test_of_two_endings_at_once_one_counts(farm: FarmDatabase, ending: int) -> None:
    """If a tenant cancels while the holder reports an end, exactly one of them ends the job."""
    for _ in range(4):
        claim = farm.claimed()
        report = endings(claim)[ending]

        def work(n: int, claim: Claim = claim, report: Any = report) -> Any:
            return farm.store.cancel(claim.id, farm.tenant.id) if n else report(farm.store)

        reported, cancelled = at_once(2, work)
        requeued = farm.events(claim.id)[2] in {"retried", "released"}
        assert bool(reported) + cancelled == (2 if requeued and cancelled else 1)
        assert farm.breaches() == []


def test_a_permanent_failure_is_not_retried(farm: FarmDatabase) -> None:
    """A failure that is not transient fails the job at once."""
    claim = farm.claimed()
    assert farm.store.fail(claim.id, 1, BUG, MAX) == "failed"
    row = farm.job(claim.id)
    assert (row["status"], row["failures"]) == ("failed", 1)
    assert row["error"] == {"code": "bad_image", "message": "not a picture"}
    assert farm.events(claim.id) == ["queued", "running", "failed"]


def test_a_transient_failure_is_retried_with_backoff_until_the_budget_is_spent(
    farm: FarmDatabase,
) -> None:
    """Transient failures wait 1, then 2 seconds, and the third ends the job."""
    claim = farm.claimed()
    for failures, wait_s in ((1, 1), (2, 2)):
        assert farm.store.fail(claim.id, failures, HICCUP, MAX) == "retried"
        row = farm.rows(
            """SELECT *, run_after - at AS wait FROM jobs JOIN events ON job_id = jobs.id
               WHERE type = 'retried' AND job_id = :i ORDER BY events.id DESC LIMIT 1""",
            i=claim.id,
        )[0]
        assert (row["status"], row["failures"]) == ("queued", failures)
        assert abs(row["wait"].total_seconds() - wait_s) < 1 / 2
        assert farm.store.claim(claim.id, "w", LEASE_S) is None
        farm.execute("UPDATE jobs SET run_after = now() WHERE id = :i", i=claim.id)
        farm.claimed(claim.id)
    assert farm.store.fail(claim.id, 3, HICCUP, MAX) == "failed"
    assert farm.job(claim.id)["error"]["code"] == "storage_unavailable"
    assert farm.events(claim.id).count("retried") == 2


def test_a_success_clears_the_error_of_an_earlier_attempt(farm: FarmDatabase) -> None:
    """A job that succeeds after a retry has no error."""
    claim = farm.claimed()
    farm.store.fail(claim.id, 1, HICCUP, MAX)
    farm.execute("UPDATE jobs SET run_after = now() WHERE id = :i", i=claim.id)
    farm.finish(farm.claimed(claim.id))
    assert farm.job(claim.id)["error"] is None
