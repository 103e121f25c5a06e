"""`AsyncFarm`: the twin of `Farm`, with `await`."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from renderfarm import AsyncFarm, AsyncImage, AsyncJob, Farm, Image, Job, JobFailed, Status
from renderfarm.testing import FakeFarm

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path


async def at_once(_: float) -> None:
    """Return at once."""


def use(fake: FakeFarm) -> AsyncFarm:
    """Return a client that does not sleep."""
    return AsyncFarm(transport=fake, sleep=at_once)


def run(story: Awaitable[Any]) -> None:
    """Run a test's coroutine to its end, with a time limit."""

    async def bounded() -> None:
        await asyncio.wait_for(story, 30)

    asyncio.run(bounded())


def test_it_does_what_farm_does(tmp_path: Path) -> None:
    """Submitting, waiting, events, lists and images work as in `Farm`."""

    async def story() -> None:
        fake = FakeFarm()
        async with use(fake) as farm:
            image = await farm.render("a", seed=3)
            assert (await image.save(tmp_path / "a.png")).read_bytes() == await image.bytes()
            assert (await image.pil()).size == (128, 128)
            job = await farm.submit("b", num_images=2)
            assert [type(event).__name__ async for event in job.events()][-1] == "StateEvent"
            assert len(job.images) == 2
            assert (await (await farm.submit("c")).cancel()).status is Status.CANCELLED
            assert [each.id async for each in farm.list()] == list(reversed(fake.job_ids))
            assert (await farm.models())[0].name == "scenes"
            key = await farm.upload(b"pixels")
            assert fake.uploads == {key: b"pixels"}
            assert (await farm.wait(job.id)).done
            assert [event async for event in farm.events(job.id)]
            assert (await (await farm.job(job.id)).refresh()).done

    run(story())


def test_as_completed_gives_each_once() -> None:
    """`as_completed` yields every job once, failed jobs too."""

    async def story() -> None:
        fake = FakeFarm()
        fake.fail_next()
        async with use(fake) as farm:
            jobs = await farm.submit_many(["a", "b", "c"])
            ended = [job async for job in farm.as_completed(jobs)]
        assert sorted(job.id for job in ended) == sorted(fake.job_ids)
        assert [job.status for job in ended].count(Status.FAILED) == 1

    run(story())


def test_trouble_is_the_same() -> None:
    """A retry never submits a job twice, and waiting for a failed job raises JobFailed."""

    async def story() -> None:
        fake = FakeFarm()
        fake.disconnect_next()
        fake.lose_next_answer()
        fake.fail_next()
        async with use(fake) as farm:
            with pytest.raises(JobFailed):
                await farm.render("a")
            with pytest.raises(ValueError, match="one image"):
                await farm.render("a", num_images=2)
        assert len(fake.requests) == 1

    run(story())


def test_many_renders_at_once() -> None:
    """Many tasks can use one client at the same time."""

    async def story() -> None:
        async with use(FakeFarm()) as farm:
            images = await asyncio.gather(*(farm.render(f"prompt {n}", seed=n) for n in range(20)))
        assert [image.seed for image in images] == list(range(20))

    run(story())


@pytest.mark.parametrize(
    ("one", "other"), [(Farm, AsyncFarm), (Job, AsyncJob), (Image, AsyncImage)]
)
def test_the_twins_have_the_same_methods(one: type, other: type) -> None:
    """Both clients offer the same names with the same parameters."""

    def methods(kind: type) -> dict[str, list[str]]:
        public = {n: f for n, f in inspect.getmembers(kind, callable) if not n.startswith("_")}
        return {name: list(inspect.signature(each).parameters) for name, each in public.items()}

    assert methods(one) == methods(other)
    assert list(inspect.signature(one).parameters) == list(inspect.signature(other).parameters)
