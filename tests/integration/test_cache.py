"""The result cache: what may be answered with an earlier job's pictures, and what may not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

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
ASKED = {"prompt": "a red circle", "scheduler": "euler", "seed": 7}


@pytest.fixture(autouse=True)
def _audited(farm: FarmDatabase) -> Iterator[None]:
    """After every test here the records hold every invariant."""
    yield
    assert farm.breaches() == []


class Submitter:
    """Submits through `accept`, as both doors do."""

    def __init__(self, farm: FarmDatabase) -> None:
        self.farm = farm
        self.model = MODEL

    def submit(self, tenant: str = "tenant", key: str | None = None, **fields: object) -> Stored:
        """One submission."""
        door = AcceptContext(self.farm.store, Catalog({"null": replace(self.model)}))
        request = JobRequest.model_validate(ASKED | fields)
        (stored,) = accept(door, getattr(self.farm, tenant), [Submission(request, key)])
        return stored

    def drawn(self, **fields: object) -> UUID:
        """A job that was rendered."""
        job_id: UUID = self.submit(**fields).row["id"]
        self.farm.finish(self.farm.claimed(job_id))
        return job_id


@pytest.fixture
def desk(farm: FarmDatabase) -> Submitter:
    """A door to the farm."""
    return Submitter(farm)


def test_the_same_again_is_answered_at_once(desk: Submitter, farm: FarmDatabase) -> None:
    """It has succeeded before any worker hears of it, with the same object, at no cost."""
    first = desk.drawn(num_images=2)
    row = desk.submit(num_images=2).row
    assert (row["status"], row["cached"], row["attempt"]) == ("succeeded", True, 0)
    assert (row["gpu_seconds"], row["cost_usd"]) == (0, 0)
    images = "SELECT n, key, sha256, seed FROM images WHERE job_id = :i ORDER BY n"
    assert farm.rows(images, i=row["id"]) == farm.rows(images, i=first)
    assert farm.events(row["id"]) == ["queued", "succeeded"]
    again = desk.submit(num_images=2).row
    assert again["cached"], "also when a cached one is the newest"


def test_a_repeat_of_its_key_is_the_same_job(desk: Submitter) -> None:
    """Idempotency comes first: the key's job, not another one like it."""
    desk.drawn()
    cached = desk.submit(key="k")
    again = desk.submit(key="k")
    assert (again.created, again.row["id"]) == (False, cached.row["id"])


def test_its_webhook_is_told(desk: Submitter, farm: FarmDatabase) -> None:
    """A webhook hears of a cached job what it would hear of any other, pictures and all."""
    desk.drawn()
    hook = {"url": "https://a.test/hook", "events": ["job.queued", "job.succeeded"]}
    row = desk.submit(webhook=hook).row
    assert farm.deliveries(row["id"]) == ["job.queued", "job.succeeded"]
    told = farm.rows("SELECT payload FROM outbox WHERE type = 'job.succeeded'")[0]["payload"]
    assert told["data"]["cached"]
    assert len(told["data"]["images"]) == 1


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
def test_what_differs_or_does_not_want_to_is_drawn(
    desk: Submitter, fields: dict[str, object]
) -> None:
    """Any field that the picture depends on, a seed left open, or `cache: false`."""
    desk.drawn()
    assert desk.submit(**fields).row["status"] == "queued"


@pytest.mark.parametrize(
    "fields", [{"priority": 9}, {"deadline_s": 60}, {"metadata": {"order": 5}}]
)
def test_what_the_picture_does_not_depend_on_is_no_difference(
    desk: Submitter, fields: dict[str, object]
) -> None:
    """Priority, deadline and metadata are the job's, not the picture's."""
    desk.drawn()
    assert desk.submit(**fields).row["cached"]


def test_a_picture_with_a_drawn_seed_answers_who_names_it(desk: Submitter) -> None:
    """A job without a seed is given one, and says which: asking for that one is the same."""
    job_id = desk.drawn(seed=None)
    seed = desk.farm.job(job_id)["request"]["seed"]
    assert desk.submit(seed=seed).row["cached"]


def test_other_weights_draw_anew(desk: Submitter) -> None:
    """A new revision of the model is not answered with the old one's pictures."""
    desk.drawn()
    desk.model = replace(MODEL, revision="r2")
    assert desk.submit().row["status"] == "queued"


def test_the_weights_that_count_are_the_workers(desk: Submitter, farm: FarmDatabase) -> None:
    """While a new revision rolls out, a picture belongs to the weights that drew it."""
    job_id = desk.submit().row["id"]
    claim = farm.claimed(job_id)
    from app.jobs.cache import key_of  # noqa: PLC0415
    from tests.integration.records import COSTS, images  # noqa: PLC0415

    farm.store.succeed(job_id, 1, images(claim), COSTS, key_of(claim.request, "r2"))
    assert desk.submit().row["status"] == "queued"
    desk.model = replace(MODEL, revision="r2")
    assert desk.submit().row["cached"]


def test_tenants_do_not_share(desk: Submitter) -> None:
    """Nobody learns from an answer's speed what another tenant has asked for."""
    desk.drawn()
    assert desk.submit("other").row["status"] == "queued"


def test_a_tenant_may_go_without(desk: Submitter, farm: FarmDatabase) -> None:
    """With `cache` off nothing of the tenant's is reused, now or later."""
    desk.drawn()
    farm.execute("UPDATE tenants SET cache = false")
    farm.__dict__.pop("tenant")
    row = desk.submit().row
    assert (row["status"], row["cache_key"]) == ("queued", None)


def test_only_success_is_reused(desk: Submitter, farm: FarmDatabase) -> None:
    """A job that waits, was cancelled, or whose pictures aged out answers nobody."""
    first = desk.submit().row["id"]
    assert desk.submit().row["status"] == "queued"
    farm.store.cancel(first, farm.tenant.id)
    assert desk.submit().row["status"] == "queued"
    old = desk.drawn(seed=9)
    farm.execute("UPDATE tenants SET keep_images_s = 1")
    farm.forge("UPDATE jobs SET finished_at = now() - interval '1 h' WHERE id = :i", i=old)
    farm.forge("UPDATE usage_entries SET day = (now() - interval '1 h')::date")
    farm.store.age_images(10)
    assert desk.submit(seed=9).row["status"] == "queued"
