"""`AsyncFarm` is the twin of `Farm`: same members, same signatures, same texts, same requests.

Each scenario is written once and runs on both clients. No list of methods is kept by hand: a new
public method without a twin, or without a scenario, fails here.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from renderfarm import AsyncFarm, AsyncImage, AsyncJob, Farm, Image, Job, RenderfarmError
from renderfarm._views import ImageView, JobView
from renderfarm.testing import FakeFarm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TWINS = ((Farm, AsyncFarm), (Job, AsyncJob), (Image, AsyncImage))
SPECIAL = {"__init__": "__init__", "__enter__": "__aenter__", "__exit__": "__aexit__"}
TEXTS = (
    (
        "A farm to send prompts to, with `await`. Use it in one event loop, in an `async with`.",
        "A farm to send prompts to. Threads may share it. Close it, or use it in a `with`.",
    ),
    (
        "(await (await farm.submit(prompt, num_images=4)).wait()).images",
        "farm.submit(prompt, num_images=4).wait().images",
    ),
)
"""The only texts that may differ, each with what the blocking client has in its place."""


# ---- members, signatures and texts


def public(kind: type) -> set[str]:
    """The names that a user of the class may use."""
    return {name for name in dir(kind) if not name.startswith("_")}


def blocking(text: object) -> str:
    """A text or annotation of the awaiting client in the words of the blocking one."""
    text = " ".join(str(text).split())
    for awaiting, other in TEXTS:
        text = text.replace(awaiting, other)
    text = re.sub(r"\bAsync(?=Farm|Job|Image|Iterator|BaseTransport|Transport)", "", text)
    return re.sub(r"\bAwaitable\[(\w+)\]", r"\1", text)


def signature(kind: type, name: str) -> list[str]:
    """Each parameter with its kind, annotation and default, then the type of the result."""
    member: Any = inspect.getattr_static(kind, name)
    function: Any = member.fget if isinstance(member, property) else member
    found = inspect.signature(function)
    lines = [
        f"{each.kind.name} {each.name}: {each.annotation} = "
        f"{getattr(each.default, '__name__', each.default)}"
        for each in found.parameters.values()
    ]
    return [blocking(line) for line in (*lines, f"-> {found.return_annotation}")]


def is_awaited(member: Any) -> bool:
    """Whether a caller awaits the member, or iterates over it with `async for`."""
    return inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)


def differences(one: type, other: type) -> list[str]:
    """What a blocking class and its twin do not have in common."""
    found = [f"only one has {name}" for name in sorted(public(one) ^ public(other))]
    if blocking(inspect.getdoc(other)) != blocking(inspect.getdoc(one)):
        found.append("the class has another text")
    pairs = {name: name for name in public(one) & public(other)}
    for name, twin in (pairs | {k: v for k, v in SPECIAL.items() if hasattr(one, k)}).items():
        member, twin_member = inspect.getattr_static(one, name), inspect.getattr_static(other, twin)
        if signature(one, name) != signature(other, twin):
            found.append(f"{name} has another signature")
        if blocking(inspect.getdoc(member)) != blocking(inspect.getdoc(twin_member)):
            found.append(f"{name} has another text")
        method = not isinstance(member, property) and name != "__init__"
        if is_awaited(twin_member) != method:
            found.append(f"{name} is awaited on one side only")
    return found


@pytest.mark.parametrize(("one", "other"), TWINS, ids=lambda kind: kind.__name__)
def test_twins_have_the_same_members(one: type, other: type) -> None:
    """Each public member exists on both, with the same signature and the same text."""
    assert differences(one, other) == []


def test_a_planted_difference_is_found() -> None:
    """A missing method, another signature, another text and a blocking twin are each reported."""

    def cancel(self: Any, *, force: bool = True) -> None:
        """Another text."""

    members = {name: inspect.getattr_static(AsyncJob, name) for name in public(AsyncJob)}
    del members["refresh"]
    planted = type("Planted", (JobView,), members | {"cancel": cancel, "__doc__": Job.__doc__})
    assert set(differences(Job, planted)) == {
        "only one has refresh",
        "cancel has another signature",
        "cancel has another text",
        "cancel is awaited on one side only",
        "__init__ has another signature",
    }


# ---- the same scenarios over the same fake farm


@dataclass
class Trace:
    """What one run of a scenario did: the methods it used, their results, requests and pauses."""

    fake: FakeFarm
    used: list[str] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    sent: list[Any] = field(default_factory=list)

    async def use(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method of either client, and note its name and its result or error."""
        kind = blocking(type(method.__self__).__name__)  # type: ignore[attr-defined]
        self.used.append(f"{kind}.{method.__name__}")
        try:
            result = await settle(method(*args, **kwargs))
        except RenderfarmError as error:
            result = error
        self.results.append(comparable(result))
        return result

    def note(self, request: httpx.Request, body: bytes) -> None:
        """Note everything that a farm could see of a request, and its timeouts."""
        headers = sorted(request.headers.items())
        timeouts = request.extensions["timeout"]
        self.sent.append((request.method, str(request.url), headers, body, timeouts))


async def settle(value: Any) -> Any:
    """Await a value if it needs it, and collect what an iterator yields."""
    value = await value if inspect.isawaitable(value) else value
    if isinstance(value, AsyncIterator):
        return [each async for each in value]
    return list(value) if isinstance(value, Iterator) else value


def comparable(value: Any) -> Any:
    """A result without its client: of handles every public property, of errors type and text."""
    if isinstance(value, (JobView, ImageView)):
        kind = type(value)
        shown = {name: getattr(value, name) for name in sorted(public(kind))}
        return {name: comparable(each) for name, each in shown.items() if not callable(each)}
    if isinstance(value, RenderfarmError):
        return type(value).__name__, str(value)
    if isinstance(value, list | tuple):
        return [comparable(each) for each in value]
    return value.tobytes() if hasattr(value, "tobytes") else value


class Recorder(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The transport of either client: notes each request, and lets the fake farm answer it."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Serve `Farm`."""
        self._trace.note(request, request.read())
        return self._trace.fake.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Serve `AsyncFarm`."""
        self._trace.note(request, await request.aread())
        return await self._trace.fake.handle_async_request(request)


async def _render_and_save(trace: Trace, farm: Any, folder: Path) -> None:
    image = await trace.use(farm.render, "a ring", seed=7, timeout_s=60)
    await trace.use(image.bytes)
    await trace.use(image.save, folder / "ring.png")
    await trace.use(image.pil)
    await trace.use(farm.render, "two rings", width=1)
    job = await trace.use(farm.submit, "three rings", num_images=3)
    last = (await trace.use(job.wait)).images[2]
    trace.fake.refuse_next(403, "expired")
    await trace.use(last.bytes)


async def _one_job(trace: Trace, farm: Any, _: Path) -> None:
    job = await trace.use(farm.submit, "a ring", seed=7, idempotency_key="mine")
    await trace.use(farm.submit, "another", idempotency_key="mine")
    job = await trace.use(farm.job, job.id)
    await trace.use(job.refresh)
    await trace.use(job.events, 60)
    await trace.use(job.wait, 60)
    await trace.use(job.cancel)
    await trace.use(farm.job, "00000000-0000-0000-0000-000000000000", appear_s=1)


async def _by_handle_and_id(trace: Trace, farm: Any, _: Path) -> None:
    job = await trace.use(farm.submit, "a ring")
    await trace.use(farm.wait, job, 60)
    await trace.use(farm.events, job.id, 60)
    await trace.use(farm.cancel, await trace.use(farm.submit, "a star"))
    trace.fake.fail_next()
    await trace.use(farm.wait, (await trace.use(farm.submit, "a star")).id)


async def _many(trace: Trace, farm: Any, _: Path) -> None:
    jobs = await trace.use(farm.submit_many, ["a ring", {"prompt": "a star", "seed": 7}] * 60)
    await trace.use(farm.list, limit=101)
    await trace.use(farm.list, status="queued", model="scenes", limit=1)
    await trace.use(farm.as_completed, jobs, timeout_s=60)
    await trace.use(farm.as_completed, jobs)


async def _retries(trace: Trace, farm: Any, _: Path) -> None:
    trace.fake.refuse_next(503, "draining")
    trace.fake.refuse_next(429, "rate_limited", retry_after_s=17)
    trace.fake.disconnect_next()
    job = await trace.use(farm.submit, "a ring")
    trace.fake.lose_next_answer()
    await trace.use(job.cancel)
    for _attempt in range(9):
        trace.fake.disconnect_next()
    await trace.use(job.refresh)


async def _waits_that_end(trace: Trace, farm: Any, _: Path) -> None:
    trace.fake = FakeFarm(held=True)
    job = await trace.use(farm.submit, "a ring")
    await trace.use(job.wait, 5)
    await trace.use(job.events, 5)
    await trace.use(farm.wait, job.id, 5)
    await trace.use(farm.events, job.id, 5)
    await trace.use(farm.render, "a star", timeout_s=5)
    await trace.use(farm.as_completed, [job], timeout_s=5)


async def _models_uploads_close(trace: Trace, farm: Any, _: Path) -> None:
    await trace.use(farm.models)
    await trace.use(farm.upload, b"pixels")
    await trace.use(farm.close)


SCENARIOS: tuple[Any, ...] = (
    _render_and_save, _one_job, _by_handle_and_id, _many, _retries, _waits_that_end,
    _models_uploads_close,
)  # fmt: skip


def traced(kind: type, scenario: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Trace:
    """Run a scenario on one client, with a clock that only pauses move, and equal random ids."""
    trace, numbers, now_s = Trace(FakeFarm()), iter(range(10_000)), [0.0]
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers)))

    def sleep(pause_s: float) -> None:
        trace.sent.append(("pause", pause_s))
        now_s[0] += pause_s

    async def async_sleep(pause_s: float) -> None:
        sleep(pause_s)

    async def run() -> None:
        farm = kind(
            transport=Recorder(trace), clock=lambda: now_s[0], jitter=lambda: 0.5,
            sleep=async_sleep if kind is AsyncFarm else sleep,
        )  # fmt: skip
        manager = farm if kind is AsyncFarm else contextlib.nullcontext(farm)
        with contextlib.nullcontext() if kind is AsyncFarm else farm:
            async with manager:
                await scenario(trace, farm, folder)
        trace.results += [farm.url, farm._transport._http.is_closed]

    asyncio.run(run())
    return trace


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__.strip("_"))
def test_twins_do_the_same(scenario: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clients send the same requests, pause alike, and return the same results and errors."""
    one = traced(Farm, scenario, tmp_path, monkeypatch)
    other = traced(AsyncFarm, scenario, tmp_path, monkeypatch)
    assert one.sent
    assert (other.used, other.sent, other.results) == (one.used, one.sent, one.results)


def test_every_method_has_a_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenarios call each public method of the three classes themselves."""
    used = {
        name
        for scenario in SCENARIOS
        for name in traced(Farm, scenario, tmp_path, monkeypatch).used
    }
    methods = {
        f"{kind.__name__}.{name}"
        for kind, _ in TWINS
        for name in public(kind)
        if inspect.isfunction(inspect.getattr_static(kind, name))
    }
    assert used == methods
