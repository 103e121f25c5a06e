"""`Farm` with the fake farm: submitting, finding, cancelling, retrying."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from renderfarm import (
    Conflict,
    InvalidRequest,
    NotFound,
    RateLimited,
    ServerError,
    Status,
)
from renderfarm.testing import FakeFarm

if TYPE_CHECKING:
    from collections.abc import Callable

    from renderfarm import Farm
    from tests.unit.renderfarm.conftest import Clock


def test_render_refuses_to_drop_images(farm: Farm, fake: FakeFarm) -> None:
    """`render` returns one image, so asking for two raises before anything is sent."""
    with pytest.raises(ValueError, match="submit"):
        farm.render("a", num_images=2)
    assert fake.requests == ()


def test_several_images_have_their_own_seeds(farm: Farm) -> None:
    """Image n of a job has the seed `seed + n`."""
    images = farm.submit("a", num_images=3, seed=5).wait().images
    assert [image.seed for image in images] == [5, 6, 7]


def test_bad_fields_are_named(farm: Farm) -> None:
    """The error of a refused request names every bad field."""
    with pytest.raises(InvalidRequest) as caught:
        farm.submit("", width=63, seed=-1)
    assert {each.field for each in caught.value.fields} == {"prompt", "width", "seed"}


def test_an_idempotency_key_gives_the_same_job(farm: Farm, fake: FakeFarm) -> None:
    """The same key with the same request gives the same job; with another request, Conflict."""
    first = farm.submit("a", idempotency_key="order-5")
    assert farm.submit("a", idempotency_key="order-5").id == first.id
    assert len(fake.requests) == 1
    with pytest.raises(Conflict):
        farm.submit("b", idempotency_key="order-5")


def test_a_lost_answer_is_not_a_second_job(farm: Farm, fake: FakeFarm) -> None:
    """If the farm's answer is lost, the retry returns the accepted job and makes no second one."""
    fake.lose_next_answer()
    job = farm.submit("a")
    assert fake.job_ids == (job.id,)


def test_a_lost_batch_answer_is_not_a_second_batch(farm: Farm, fake: FakeFarm) -> None:
    """A retried batch makes no second batch."""
    fake.lose_next_answer()
    jobs = farm.submit_many(["a", {"prompt": "b", "seed": 1}])
    assert fake.job_ids == tuple(job.id for job in jobs)


def test_a_lost_cancel_answer_is_no_conflict(farm: Farm, fake: FakeFarm) -> None:
    """The retry of a cancel whose answer was lost succeeds, not with Conflict."""
    job = farm.submit("a")
    fake.lose_next_answer()
    assert job.cancel().status is Status.CANCELLED


def test_refusals_are_retried(farm: Farm, fake: FakeFarm, clock: Clock) -> None:
    """A 503, a 429 and a broken connection are retried, after growing pauses."""
    fake.refuse_next(503, "draining")
    fake.disconnect_next()
    fake.refuse_next(429, "over_quota")
    farm.submit("a")
    assert clock.slept == [0.25, 0.5, 1.0]


def test_retry_after_is_honoured(farm: Farm, fake: FakeFarm, clock: Clock) -> None:
    """The pause before a retry is the one that the farm's Retry-After names."""
    fake.refuse_next(429, "over_quota", retry_after_s=17)
    farm.submit("a")
    assert clock.slept == [17.0]


def test_a_long_retry_after_is_the_callers_matter(
    farm: Farm,
    fake: FakeFarm,
    clock: Clock,
) -> None:
    """For a Retry-After of an hour the client does not sleep, but raises RateLimited."""
    fake.refuse_next(429, "over_quota", retry_after_s=3_600)
    with pytest.raises(RateLimited) as caught:
        farm.submit("a")
    assert (caught.value.retry_after_s, clock.slept) == (3_600.0, [])


def test_retries_end(connect: Callable[..., Farm], fake: FakeFarm, clock: Clock) -> None:
    """After `max_retries` the last refusal is raised."""
    for _ in range(3):
        fake.refuse_next(500, "bug")
    with pytest.raises(ServerError):
        connect(fake, max_retries=2).submit("a")
    assert len(clock.slept) == 2


def test_other_refusals_are_final(farm: Farm, clock: Clock) -> None:
    """A refusal that a retry cannot change is raised at once."""
    with pytest.raises(NotFound):
        farm.job("none")
    assert clock.slept == []


def test_methods_take_ids_too(farm: Farm) -> None:
    """`wait`, `cancel` and `events` of the farm accept an id, too."""
    assert farm.wait(farm.submit("a").id).done
    assert farm.cancel(farm.submit("a").id).status is Status.CANCELLED
    assert list(farm.events(farm.submit("a").id))


def test_a_final_job_cannot_be_cancelled(farm: Farm) -> None:
    """Cancelling a job that has succeeded raises Conflict."""
    job = farm.submit("a").wait()
    with pytest.raises(Conflict):
        job.cancel()


def test_refresh_looks_again(farm: Farm) -> None:
    """A handle shows the last known state until `refresh`."""
    job = farm.submit("a")
    assert job.status is Status.QUEUED
    assert job.refresh().status is Status.RUNNING


def test_list_follows_the_cursor(connect: Callable[..., Farm]) -> None:
    """`list` yields each job once, newest first, over all pages."""
    fake = FakeFarm(held=True)
    farm = connect(fake)
    farm.submit_many([f"prompt {n}" for n in range(230)])
    assert [job.id for job in farm.list()] == list(reversed(fake.job_ids))
    assert len(list(farm.list(limit=120))) == 120
    assert list(farm.list(status="succeeded")) == []


def test_models_tell_their_limits(farm: Farm) -> None:
    """`models` returns each model with its limits."""
    (model,) = farm.models()
    assert (model.name, model.limits.max_steps) == ("scenes", 100)


def test_an_upload_can_be_named_in_requests(farm: Farm, fake: FakeFarm) -> None:
    """An upload goes to the farm's presigned URL, and a request can name it by its key."""
    key = farm.upload(b"pixels")
    assert fake.uploads == {key: b"pixels"}
    farm.submit("a", image=key, strength=0.5)
    assert fake.requests[-1]["image"] == key
