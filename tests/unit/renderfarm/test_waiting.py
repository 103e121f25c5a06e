"""Waiting for jobs: one, many, and by their events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from renderfarm import (
    JobCancelled,
    JobExpired,
    JobFailed,
    ProgressEvent,
    StateEvent,
    Status,
    TransportError,
    WaitTimeout,
)
from renderfarm.testing import FakeFarm

if TYPE_CHECKING:
    from collections.abc import Callable

    from renderfarm import Farm
    from tests.unit.renderfarm.conftest import Clock


def test_waiting_raises_how_it_ended(farm: Farm, fake: FakeFarm) -> None:
    """Waiting for a failed, cancelled or expired job raises its error, with job and reason."""
    fake.fail_next("out_of_memory", "too large")
    with pytest.raises(JobFailed, match="too large") as failed:
        farm.render("a")
    assert failed.value.job.error is not None
    assert failed.value.job.error.code == "out_of_memory"
    with pytest.raises(JobCancelled):
        farm.submit("a").cancel().wait()
    job = farm.submit("a")
    fake.expire(job.id)
    with pytest.raises(JobExpired):
        job.wait()


def test_waiting_is_bounded(connect: Callable[..., Farm], clock: Clock) -> None:
    """A wait for a job that does not end raises WaitTimeout on time, and can be repeated."""
    fake = FakeFarm(held=True)
    job = connect(fake).submit("a")
    with pytest.raises(WaitTimeout) as caught:
        job.wait(timeout=60)
    assert clock.now == pytest.approx(1_060)
    assert caught.value.job.id == job.id
    fake.finish(job.id)
    assert job.wait().done


def test_waiting_has_a_default_bound(connect: Callable[..., Farm], clock: Clock) -> None:
    """A wait without a timeout uses the farm's `wait_s`."""
    with pytest.raises(WaitTimeout):
        connect(FakeFarm(held=True), wait_s=5).render("a")
    assert clock.now == pytest.approx(1_005)


def test_a_look_is_a_wait_of_no_time(connect: Callable[..., Farm], clock: Clock) -> None:
    """`wait(timeout=0)` sends one request and does not sleep."""
    fake = FakeFarm(held=True)
    job = connect(fake).submit("a")
    fake.advance(job.id)
    with pytest.raises(WaitTimeout):
        job.wait(timeout=0)
    assert (job.status, clock.slept) == (Status.RUNNING, [])


def test_waiting_outlasts_a_restart(farm: Farm, fake: FakeFarm) -> None:
    """A farm that is unavailable for longer than the retries of a call does not end a wait."""
    job = farm.submit("a")
    for _ in range(20):
        fake.disconnect_next()
    assert job.wait(timeout=300).status is Status.SUCCEEDED


def test_a_farm_that_never_returns_ends_a_wait(farm: Farm, fake: FakeFarm, clock: Clock) -> None:
    """If the farm stays unavailable, the wait ends on time with the last connection error."""
    job = farm.submit("a")
    for _ in range(100):
        fake.disconnect_next()
    with pytest.raises(TransportError, match="the test broke this connection"):
        job.wait(timeout=60)
    assert clock.now <= 1_060


def test_events_end_with_the_final_state(farm: Farm) -> None:
    """Events carry each state and step in order, and update the handle."""
    job = farm.submit("a", num_inference_steps=4)
    events = list(job.events())
    states = [each.job.status for each in events if isinstance(each, StateEvent)]
    steps = [each.progress.step for each in events if isinstance(each, ProgressEvent)]
    assert states == ["queued", "running", "succeeded"]
    assert steps == [1, 2, 3, 4]
    assert len(job.images) == 1


def test_events_are_bounded(connect: Callable[..., Farm]) -> None:
    """Events of a job that does not end raise WaitTimeout, and no event is repeated before."""
    events = connect(FakeFarm(held=True)).submit("a").events(timeout_s=30)
    assert next(events)
    with pytest.raises(WaitTimeout):
        next(events)


def test_events_outlast_a_restart(farm: Farm, fake: FakeFarm) -> None:
    """A failed connection is opened again; a final refusal is raised."""
    job = farm.submit("a")
    for _ in range(10):
        fake.disconnect_next()
    fake.refuse_next(503, "draining")
    assert isinstance(list(job.events())[-1], StateEvent)
    fake.refuse_next(401, "unauthorized")
    with pytest.raises(Exception, match="401"):
        list(job.events())


def test_as_completed_gives_each_once(farm: Farm, fake: FakeFarm) -> None:
    """`as_completed` yields every job once, failed jobs too."""
    fake.fail_next()
    jobs = farm.submit_many([f"prompt {n}" for n in range(130)])
    ended = list(farm.as_completed(jobs))
    assert sorted(job.id for job in ended) == sorted(job.id for job in jobs)
    assert [job.status for job in ended].count(Status.FAILED) == 1


def test_as_completed_gives_what_ends_first(connect: Callable[..., Farm]) -> None:
    """`as_completed` yields a job when it ends, even if an earlier job continues."""
    fake = FakeFarm(held=True)
    farm = connect(fake)
    slow, quick = farm.submit_many(["slow", "quick"])
    fake.finish(quick.id)
    ended = farm.as_completed([slow, quick])
    assert next(ended).id == quick.id
    fake.finish(slow.id)
    assert next(ended).id == slow.id


def test_as_completed_finds_old_jobs(connect: Callable[..., Farm]) -> None:
    """`as_completed` finds a job that is far behind the newest ones."""
    fake = FakeFarm(held=True)
    farm = connect(fake)
    stuck, old = farm.submit_many(["stuck", "old"])
    farm.submit_many([f"prompt {n}" for n in range(500)])
    fake.finish(old.id)
    assert next(farm.as_completed([stuck, old])).id == old.id


def test_as_completed_asks_by_the_page(connect: Callable[..., Farm]) -> None:
    """Hundreds of jobs that end together cost a few calls; jobs that are final cost none."""
    fake = FakeFarm(held=True)
    requests: list[httpx.Request] = []

    def count(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return fake.handle_request(request)

    farm = connect(httpx.MockTransport(count))
    jobs = farm.submit_many([f"prompt {n}" for n in range(250)])
    for job in jobs:
        fake.finish(job.id)
    requests.clear()
    assert len(list(farm.as_completed(jobs))) == 250
    assert len(requests) == 3
    assert len(list(farm.as_completed(jobs))) == 250
    assert len(requests) == 3


def test_as_completed_is_bounded(connect: Callable[..., Farm], clock: Clock) -> None:
    """If jobs continue after `timeout_s`, WaitTimeout is raised on time."""
    farm = connect(FakeFarm(held=True))
    with pytest.raises(WaitTimeout):
        list(farm.as_completed(farm.submit_many(["a", "b"]), timeout_s=30))
    assert clock.now == pytest.approx(1_030)
