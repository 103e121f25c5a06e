"""The result cache: which requests get an earlier job's pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.catalog.entries import Catalog, Model
from app.jobs.accept import AcceptContext, Submission, accept
from app.jobs.request import JobRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from app.jobs.records import Stored
    from tests.integration.records import FarmDatabase

MODEL = Model("null", "null", None, "", "r1", 0.0, ("euler",))
REQUEST = {"prompt": "a red circle", "scheduler": "euler", "seed": 7}


@pytest.fixture(autouse=True)
def _audited(farm: FarmDatabase) -> Iterator[None]:
    """After each test the database holds every invariant."""
    yield
    assert farm.breaches() == []


class Submitter:
    """Submits through `accept`, like HTTP and queues."""

    def __init__(self, farm: FarmDatabase) -> None:
        self.farm = farm
        self.model = MODEL

    def submit(self, tenant: str = "tenant", key: str | None = None, **fields: Any) -> Stored:
        """Submit one job."""
        context = AcceptContext(self.farm.store, Catalog({"null": replace(self.model)}))
        request = JobRequest.model_validate(REQUEST | fields)
        (stored,) = accept(context, getattr(self.farm, tenant), [Submission(request, key)])
        return stored

    def rendered(self, **fields: Any) -> UUID:
        """Submit a job and finish it."""
        job_id: UUID = self.submit(**fields).row["id"]
        self.farm.finish(self.farm.claimed(job_id))
        return job_id


@pytest.fixture
def submitter(farm: FarmDatabase) -> Submitter:
    """A submitter to the farm."""
    return Submitter(farm)


def test_a_repeated_request_is_answered_at_once(submitter: Submitter, farm: FarmDatabase) -> None:
    """It succeeds without a worker, with the same objects, at no cost."""
    first = submitter.rendered(num_images=2)
    row = submitter.submit(num_images=2).row
    assert (row["status"], row["cached"], row["attempt"]) == ("succeeded", True, 0)
    assert (row["gpu_seconds"], row["cost_usd"]) == (0, 0)
    images = "SELECT n, key, sha256, seed FROM images WHERE job_id = :i ORDER BY n"
    assert farm.rows(images, i=row["id"]) == farm.rows(images, i=first)
    assert farm.events(row["id"]) == ["queued", "succeeded"]
    again = submitter.submit(num_images=2).row
    assert again["cached"], "also if the newest match is itself cached"


def test_an_idempotency_key_precedes_the_cache(submitter: Submitter) -> None:
    """A repeated key returns its own job, not a new cached one."""
    submitter.rendered()
    cached = submitter.submit(key="k")
    again = submitter.submit(key="k")
    assert (again.created, again.row["id"]) == (False, cached.row["id"])


def test_a_cached_job_sends_its_webhook(submitter: Submitter, farm: FarmDatabase) -> None:
    """The webhooks of a cached job equal those of a rendered one, with its images."""
    submitter.rendered()
    hook = {"url": "https://a.test/hook", "events": ["job.queued", "job.succeeded"]}
    row = submitter.submit(webhook=hook).row
    assert farm.deliveries(row["id"]) == ["job.queued", "job.succeeded"]
    payload = farm.rows("SELECT payload FROM outbox WHERE type = 'job.succeeded'")[0]["payload"]
    assert payload["data"]["cached"]
    assert len(payload["data"]["images"]) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 8},
        {"prompt": "a red  circle"},
        {"num_images": 2},
        {"width": 128},
        {"output_format": "webp"},
        {"guidance_scale": 5.5},
        {"seed": None},
        {"cache": False},
    ],
)
def test_a_different_request_is_rendered(submitter: Submitter, fields: dict[str, Any]) -> None:
    """A field that changes the picture, a missing seed, or `cache: false` leads to a new job."""
    submitter.rendered()
    assert submitter.submit(**fields).row["status"] == "queued"


@pytest.mark.parametrize(
    "fields", [{"priority": 9}, {"deadline_s": 60}, {"metadata": {"order": 5}}]
)
def test_fields_that_do_not_change_the_picture_are_ignored(
    submitter: Submitter, fields: dict[str, Any]
) -> None:
    """Priority, deadline and metadata do not change the picture."""
    submitter.rendered()
    assert submitter.submit(**fields).row["cached"]


def test_a_random_seed_can_be_requested_later(submitter: Submitter) -> None:
    """A job without a seed gets a random one; a request with that seed gets its picture."""
    job_id = submitter.rendered(seed=None)
    seed = submitter.farm.job(job_id)["request"]["seed"]
    assert submitter.submit(seed=seed).row["cached"]


def test_other_weights_are_rendered(submitter: Submitter) -> None:
    """A request to a new revision of the model does not get the old revision's pictures."""
    submitter.rendered()
    submitter.model = replace(MODEL, revision="r2")
    assert submitter.submit().row["status"] == "queued"


def test_the_workers_revision_counts(submitter: Submitter, farm: FarmDatabase) -> None:
    """During a rollout a picture belongs to the revision that rendered it."""
    job_id = submitter.submit().row["id"]
    claim = farm.claimed(job_id)
    from app.jobs.cache import key_of  # noqa: PLC0415
    from tests.integration.records import COSTS, images  # noqa: PLC0415

    farm.store.succeed(job_id, 1, images(claim), COSTS, key_of(claim.request, "r2"))
    assert submitter.submit().row["status"] == "queued"
    submitter.model = replace(MODEL, revision="r2")
    assert submitter.submit().row["cached"]


def test_tenants_do_not_share(submitter: Submitter) -> None:
    """The speed of an answer must not show what another tenant has requested."""
    submitter.rendered()
    assert submitter.submit("other").row["status"] == "queued"


def test_a_tenant_can_turn_the_cache_off(submitter: Submitter, farm: FarmDatabase) -> None:
    """With `cache` off no picture of the tenant is reused, now or later."""
    submitter.rendered()
    farm.execute("UPDATE tenants SET cache = false")
    farm.__dict__.pop("tenant")
    row = submitter.submit().row
    assert (row["status"], row["cache_key"]) == ("queued", None)


def test_only_success_is_reused(submitter: Submitter, farm: FarmDatabase) -> None:
    """A job that waits, was cancelled, or whose images expired is not reused."""
    first = submitter.submit().row["id"]
    assert submitter.submit().row["status"] == "queued"
    farm.store.cancel(first, farm.tenant.id)
    assert submitter.submit().row["status"] == "queued"
    old = submitter.rendered(seed=9)
    farm.execute("UPDATE tenants SET keep_images_s = 1")
    farm.forge("UPDATE jobs SET finished_at = now() - interval '1 h' WHERE id = :i", i=old)
    farm.forge("UPDATE usage_entries SET day = (now() - interval '1 h')::date")
    farm.store.age_images(10)
    assert submitter.submit(seed=9).row["status"] == "queued"
