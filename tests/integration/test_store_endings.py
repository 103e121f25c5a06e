"""How a holder ends its attempt: success and failure, in a real Postgres."""

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
    """State, images, costs and event appear together."""
    claim = farm.claimed(num_images=2)
    assert farm.store.succeed(claim.id, claim.attempt, images(claim, 2), COSTS)
    row = farm.job(claim.id)
    assert (row["status"], row["step"], row["lease_until"]) == ("succeeded", 10, None)
    assert (row["render_s"], row["store_s"], row["gpu_seconds"]) == (0.5, 0.1, 0.25)
    found = farm.rows("SELECT * FROM images WHERE job_id = :i ORDER BY n", i=claim.id)
    assert [(image["n"], image["seed"]) for image in found] == [(0, 7), (1, 8)]
    assert farm.events(claim.id) == ["queued", "running", "succeeded"]


def test_images_that_cannot_be_written_leave_the_job_running(farm: FarmDatabase) -> None:
    """If the images are refused, neither the state nor the event stays behind."""
    claim = farm.claimed()
    with pytest.raises(IntegrityError):
        farm.store.succeed(claim.id, 1, images(claim) * 2, COSTS)
    assert farm.state(claim.id) == ("running", 1)
    assert farm.events(claim.id) == ["queued", "running"]


def endings(claim: Claim) -> list[Callable[[Store], Any]]:
    """Everything that a holder may say of its attempt."""
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
    """Whatever became of the job since, its old holder cannot end, release or renew it."""
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
    """A tenant who cancels and a holder who reports at the same moment: exactly one has its way."""
    for _ in range(4):
        claim = farm.claimed()
        report = endings(claim)[ending]

        def work(n: int, claim: Claim = claim, report: Any = report) -> Any:
            return farm.store.cancel(claim.id, farm.tenant.id) if n else report(farm.store)

        reported, cancelled = at_once(2, work)
        requeued = farm.events(claim.id)[2] in {"retried", "released"}
        assert bool(reported) + cancelled == (2 if requeued and cancelled else 1)
        assert farm.breaches() == []


def test_the_requests_own_fault_fails_at_once(farm: FarmDatabase) -> None:
    """What another attempt cannot mend is not tried again."""
    claim = farm.claimed()
    assert farm.store.fail(claim.id, 1, BUG, MAX) == "failed"
    row = farm.job(claim.id)
    assert (row["status"], row["failures"]) == ("failed", 1)
    assert row["error"] == {"code": "bad_image", "message": "not a picture"}
    assert farm.events(claim.id) == ["queued", "running", "failed"]


def test_a_hiccup_is_tried_again_later_and_later_until_the_budget_is_spent(
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


def test_an_error_that_was_overcome_is_forgotten(farm: FarmDatabase) -> None:
    """A job that succeeds after a retry carries no error."""
    claim = farm.claimed()
    farm.store.fail(claim.id, 1, HICCUP, MAX)
    farm.execute("UPDATE jobs SET run_after = now() WHERE id = :i", i=claim.id)
    farm.finish(farm.claimed(claim.id))
    assert farm.job(claim.id)["error"] is None
