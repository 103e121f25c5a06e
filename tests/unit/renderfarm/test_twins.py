"""`AsyncFarm` is the twin of `Farm`: same names, same parameters, same texts, same requests."""

from __future__ import annotations

import asyncio
import inspect
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from renderfarm import AsyncFarm, AsyncImage, AsyncJob, Farm, Image, Job
from renderfarm.testing import FakeFarm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

TWINS = ((Farm, AsyncFarm), (Job, AsyncJob), (Image, AsyncImage))
RENAMED = {"__enter__": "__aenter__", "__exit__": "__aexit__"}
DIFFERENT_TEXT = {"Farm", "Farm.render", "Farm.job"}
"""Texts that must differ: how the client is closed, an example with `await`, a reference."""


def public(kind: type) -> set[str]:
    """The names that a user of the class may use."""
    return {name for name in dir(kind) if not name.startswith("_")} | (
        RENAMED.keys() & set(dir(kind))
    )


def plain(text: str) -> str:
    """A text or annotation without what makes it asynchronous."""
    text = re.sub(r"\bAsync(?=Farm|Job|Image|Iterator|BaseTransport|Client)", "", text)
    return re.sub(r"\bAwaitable\[(.*)\]", r"\1", text)


def parameters(kind: type, name: str) -> list[tuple[str, str, str]]:
    """Name, kind and default of each parameter; empty for a property."""
    member = inspect.getattr_static(kind, name)
    if isinstance(member, property):
        return []
    found = inspect.signature(getattr(kind, name)).parameters.values()
    return [(each.name, each.kind.name, plain(repr(each.default))) for each in found]


def differences(one: type, other: type) -> list[str]:
    """What a class and its twin do not have in common."""
    found = []
    names, twins = public(one), {RENAMED.get(name, name) for name in public(one)}
    found += [f"{other.__name__} lacks {name}" for name in sorted(twins - set(dir(other)))]
    found += [f"{one.__name__} lacks {name}" for name in sorted(public(other) - twins - names)]
    for name in sorted(names):
        twin = RENAMED.get(name, name)
        if twin not in dir(other):
            continue
        if name not in RENAMED and parameters(one, name) != parameters(other, twin):
            found.append(f"{name} has other parameters")
        texts = [
            inspect.getdoc(inspect.getattr_static(k, n)) for k, n in ((one, name), (other, twin))
        ]
        if f"{one.__name__}.{name}" not in DIFFERENT_TEXT and plain(str(texts[0])) != plain(
            str(texts[1])
        ):
            found.append(f"{name} has another text")
    return found


@pytest.mark.parametrize(("one", "other"), TWINS, ids=lambda kind: kind.__name__)
def test_twins_have_the_same_members(one: type, other: type) -> None:
    """Each public member exists on both, with the same parameters and the same text."""
    assert differences(one, other) == []


def test_a_planted_difference_is_found() -> None:
    """A missing method, another default and another text are each reported."""

    async def cancel(self: object, *, force: bool = True) -> object:
        """Another text."""
        del force
        return self

    members = {name: inspect.getattr_static(AsyncJob, name) for name in public(AsyncJob)}
    del members["refresh"]
    lacking = type("Lacking", (), members | {"cancel": cancel})
    found = differences(Job, lacking)
    assert "cancel has other parameters" in found
    assert "cancel has another text" in found
    assert any("refresh" in each for each in found)


# ---- the same calls over the same fake farm

Scenario = tuple["Callable[[Farm, Path], Any]", "Callable[[AsyncFarm, Path], Awaitable[Any]]"]


async def _all(items: Any) -> list[Any]:
    return [each async for each in items]


async def _render_async(farm: AsyncFarm, _: Path) -> Any:
    image = await farm.render("a ring", seed=7)
    return image.seed, await image.bytes()


async def _wait_async(farm: AsyncFarm, _: Path) -> Any:
    return (await farm.wait(await farm.submit("a ring", seed=7), 60)).status


async def _events_async(farm: AsyncFarm, _: Path) -> Any:
    job = await farm.submit("a ring", seed=7)
    return [type(each).__name__ for each in await _all(farm.events(job, 60))]


async def _completed_async(farm: AsyncFarm, _: Path) -> Any:
    jobs = await farm.submit_many(["a ring", {"prompt": "a star", "seed": 7}])
    return sorted([job.status async for job in farm.as_completed(jobs, timeout_s=60)])


async def _list_async(farm: AsyncFarm, _: Path) -> Any:
    await farm.submit_many(["a ring", "a star"])
    return [job.status async for job in farm.list(limit=1)]


async def _job_async(farm: AsyncFarm, path: Path) -> Any:
    job = await farm.job((await farm.submit("a ring", seed=7)).id)
    await job.refresh()
    seen = [type(each).__name__ for each in await _all(job.events(60))]
    await job.wait(60)
    saved = await job.images[0].save(path / "ring.png")
    return seen, saved.name, (await job.images[0].pil()).size, job.done


async def _cancel_async(farm: AsyncFarm, _: Path) -> Any:
    first, second = await farm.submit("a ring"), await farm.submit("a star")
    return (await farm.cancel(first)).status, (await second.cancel()).status


async def _upload_async(farm: AsyncFarm, _: Path) -> Any:
    return (await farm.upload(b"pixels")).startswith("uploads/")


async def _models_async(farm: AsyncFarm, _: Path) -> Any:
    return [model.name for model in await farm.models()]


async def _close_async(farm: AsyncFarm, _: Path) -> Any:
    return await farm.close()


def _render(farm: Farm, _: Path) -> Any:
    image = farm.render("a ring", seed=7)
    return image.seed, image.bytes()


def _job(farm: Farm, path: Path) -> Any:
    job = farm.job(farm.submit("a ring", seed=7).id)
    job.refresh()
    seen = [type(each).__name__ for each in job.events(60)]
    job.wait(60)
    saved = job.images[0].save(path / "ring.png")
    return seen, saved.name, job.images[0].pil().size, job.done


def _events(farm: Farm, _: Path) -> Any:
    return [type(each).__name__ for each in farm.events(farm.submit("a ring", seed=7), 60)]


def _completed(farm: Farm, _: Path) -> Any:
    jobs = farm.submit_many(["a ring", {"prompt": "a star", "seed": 7}])
    return sorted(job.status for job in farm.as_completed(jobs, timeout_s=60))


def _list(farm: Farm, _: Path) -> Any:
    farm.submit_many(["a ring", "a star"])
    return [job.status for job in farm.list(limit=1)]


def _cancel(farm: Farm, _: Path) -> Any:
    first, second = farm.submit("a ring"), farm.submit("a star")
    return farm.cancel(first).status, second.cancel().status


SCENARIOS: dict[str, Scenario] = {
    "render bytes": (_render, _render_async),
    "submit wait": (
        lambda farm, _: farm.wait(farm.submit("a ring", seed=7), 60).status, _wait_async,
    ),
    "events": (_events, _events_async),
    "submit_many as_completed": (_completed, _completed_async),
    "list": (_list, _list_async),
    "job refresh events wait save pil": (_job, _job_async),
    "cancel": (_cancel, _cancel_async),
    "upload": (lambda farm, _: farm.upload(b"pixels").startswith("uploads/"), _upload_async),
    "models": (lambda farm, _: [model.name for model in farm.models()], _models_async),
    "close": (lambda farm, _: farm.close(), _close_async),
}  # fmt: skip
"""Each name lists the methods that its two sides call."""


class Recorder(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A fake farm that notes method, path and body of each request."""

    def __init__(self, *, held: bool) -> None:
        self._fake = FakeFarm(held=held)
        self.requests: list[tuple[str, str, bytes]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Note the request, and answer it."""
        self._note(request, request.read())
        return self._fake.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Note the request, and answer it."""
        self._note(request, await request.aread())
        return await self._fake.handle_async_request(request)

    def _note(self, request: httpx.Request, body: bytes) -> None:
        path = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", request.url.path)
        self.requests.append((request.method, path, body))


@pytest.mark.parametrize("name", SCENARIOS)
def test_twins_send_the_same_requests(name: str, tmp_path: Path) -> None:
    """Both clients send the same requests and return the same results."""
    blocking, awaiting = SCENARIOS[name]
    one, other = Recorder(held=name == "cancel"), Recorder(held=name == "cancel")
    result = blocking(Farm(transport=one, sleep=lambda _: None), tmp_path)

    async def no_sleep(_: float) -> None:
        return None

    async def run() -> Any:
        return await awaiting(AsyncFarm(transport=other, sleep=no_sleep), tmp_path)

    assert asyncio.run(run()) == result
    assert other.requests == one.requests


def test_every_method_has_a_scenario() -> None:
    """A public method of the three classes that no scenario calls fails here."""
    called = {method for name in SCENARIOS for method in name.split()}
    methods = {
        name
        for kind, _ in TWINS
        for name in public(kind) - RENAMED.keys()
        if not isinstance(inspect.getattr_static(kind, name), property)
        and callable(getattr(kind, name, None))
    }
    assert methods - called == set()
