"""The moves of a job write its webhooks to the outbox, in a real Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import IntegrityError

from tests.integration.records import BUG, MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.records import FarmDatabase

pytestmark = pytest.mark.usefixtures("audited")


HOOK = {"url": "https://a.test/hook", "events": []}


def test_a_webhook_without_events_gets_the_final_events(farm: FarmDatabase) -> None:
    """A webhook that names no events gets each final event and no other."""
    done = farm.claimed(webhook=HOOK)
    farm.finish(done)
    failed = farm.claimed(webhook=HOOK)
    farm.store.fail(failed.id, 1, BUG, MAX)
    cancelled = farm.queued(webhook=HOOK)
    farm.store.cancel(cancelled, farm.tenant.id)
    late = farm.queued(webhook=HOOK)
    farm.outdate(late)
    farm.store.expire()
    lost = farm.claimed(webhook=HOOK).id
    farm.lose(lost)
    farm.store.rescue(1)
    types = [farm.deliveries(i) for i in (done.id, failed.id, cancelled, late, lost)]
    assert types == [
        ["job.succeeded"], ["job.failed"], ["job.cancelled"], ["job.expired"], ["job.failed"],
    ]  # fmt: skip


def test_a_webhook_gets_the_events_that_it_names_and_no_others(farm: FarmDatabase) -> None:
    """A webhook gets each named event, once per attempt for `job.started`, and no other event."""
    chosen = ["job.queued", "job.started", "job.failed"]
    claim = farm.claimed(webhook=HOOK | {"events": chosen})
    farm.store.release(claim.id, 1)
    farm.finish(farm.claimed(claim.id))
    assert farm.deliveries(claim.id) == ["job.queued", "job.started", "job.started"]
    silent = farm.claimed()
    farm.finish(silent)
    assert farm.deliveries(silent.id) == []


def test_a_delivery_has_the_job_at_the_time_of_the_event(farm: FarmDatabase) -> None:
    """The payload is the public job with its images' keys; the row has no secret of its own."""
    claim = farm.claimed(webhook=HOOK, metadata={"order": 7})
    farm.finish(claim)
    (row,) = farm.rows("SELECT * FROM outbox")
    payload = row["payload"]
    assert (row["url"], row["state"], row["tries"]) == (HOOK["url"], "pending", 0)
    assert (row["secret"], row["endpoint_id"]) == (None, None)
    assert (payload["type"], payload["data"]["status"]) == ("job.succeeded", "succeeded")
    assert payload["data"]["id"] == str(claim.id)
    assert payload["data"]["metadata"] == {"order": 7}
    assert payload["data"]["images"][0]["key"].endswith(f"{claim.id}/1/0.png")
    assert payload["timestamp"] == payload["data"]["finished_at"]


@pytest.mark.parametrize("ending", ["succeed", "fail", "cancel", "expire", "rescue"])
def test_no_job_ends_without_its_delivery(farm: FarmDatabase, ending: str) -> None:
    """If the outbox cannot be written, the job does not end."""
    claim = farm.claimed(webhook=HOOK)
    if ending == "expire":
        farm.outdate(claim.id)
    if ending == "rescue":
        farm.lose(claim.id)
    end: dict[str, Callable[[], Any]] = {
        "succeed": lambda: farm.finish(claim),
        "fail": lambda: farm.store.fail(claim.id, 1, BUG, MAX),
        "cancel": lambda: farm.store.cancel(claim.id, farm.tenant.id),
        "expire": farm.store.expire,
        "rescue": lambda: farm.store.rescue(1),
    }
    farm.execute("ALTER TABLE outbox ADD CONSTRAINT shut CHECK (false) NOT VALID")
    try:
        with pytest.raises(IntegrityError, match="shut"):
            end[ending]()
    finally:
        farm.execute("ALTER TABLE outbox DROP CONSTRAINT shut")
    assert farm.state(claim.id) == ("running", 1)
    assert farm.events(claim.id) == ["queued", "running"]
