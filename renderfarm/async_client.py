"""`AsyncFarm`, the awaiting client: the twin of `client`. Both run the flows of `_flows`."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import TYPE_CHECKING, Self, Unpack

from renderfarm import _address, _calls, _events, _files, _flows, _views
from renderfarm._transport import AsyncTransport, Limits
from renderfarm.types import StateEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    import httpx
    import PIL.Image

    from renderfarm import types
    from renderfarm.request import JobFields, JobRequest


class AsyncImage(_views.ImageView):
    """One image of a finished job, in the farm's storage."""

    def __init__(
        self, transport: AsyncTransport, job_id: str, index: int, info: types.Image
    ) -> None:
        self.info = info
        self._transport = transport
        self._job_id = job_id
        self._index = index

    async def bytes(self) -> bytes:
        """Download the file. Raises DownloadError if it does not arrive whole."""
        policy = self._transport.limits.policy
        return await self._transport.run(
            _flows.download(self._job_id, self._index, self.info, policy)
        )

    async def save(self, path: str | os.PathLike[str]) -> Path:
        """Download into a file, whole or not at all, in a folder that exists. Return its path."""
        path = _files.writable(path)
        return await asyncio.to_thread(_files.write, path, await self.bytes())

    async def pil(self) -> PIL.Image.Image:
        """Download and open with Pillow (`pip install 'renderfarm[images]'`)."""
        return _files.pil(await self.bytes())


class AsyncJob(_views.JobView):
    """A handle on one job.

    Its properties show the farm's last answer. Only its methods make requests.
    """

    def __init__(self, transport: AsyncTransport, snapshot: types.Job) -> None:
        self.snapshot = snapshot
        self._transport = transport

    @property
    def images(self) -> tuple[AsyncImage, ...]:
        """The images, in the order of their seeds; empty before the job succeeded."""
        infos = enumerate(self.snapshot.images)
        return tuple(AsyncImage(self._transport, self.id, index, info) for index, info in infos)

    async def refresh(self) -> Self:
        """Read the job's current state from the farm."""
        self._update(
            await self._transport.run(
                _flows.ask(_calls.job(self.id), self._transport.limits.policy)
            )
        )
        return self

    async def wait(self, timeout: float | None = None) -> Self:  # noqa: ASYNC109 - held by the farm
        """Wait until the job succeeded, at most `timeout` seconds (None: the farm's `wait_s`).

        Raises JobFailed, JobCancelled or JobExpired if it ended otherwise, WaitTimeout if it
        continues. While the farm is unavailable, the wait goes on.
        """
        limits = self._transport.limits
        timeout_s = limits.wait_s if timeout is None else timeout
        job = await self._transport.run(
            _flows.wait(self.id, timeout_s, self._update, limits.policy)
        )
        _flows.succeeded(job)
        return self

    async def cancel(self) -> Self:
        """Cancel the job. Raises Conflict if it has ended otherwise."""
        self._update(
            await self._transport.run(_flows.cancel(self.id, self._transport.limits.policy))
        )
        return self

    async def events(self, timeout_s: float | None = None) -> AsyncIterator[types.Event]:
        """Yield what happens to the job, ending with its final state.

        Reconnects by itself. Raises WaitTimeout after `timeout_s` (None: the farm's `wait_s`).
        """
        limits = self._transport.limits
        timeout_s = limits.wait_s if timeout_s is None else timeout_s
        follow = _events.Follow(self.snapshot, timeout_s, limits.policy)
        async for event in self._transport.stream(follow):
            if isinstance(event, StateEvent):
                self._update(event.job)
            yield event

    def _update(self, snapshot: types.Job) -> None:
        self.snapshot = snapshot


class AsyncFarm:
    """A farm to send prompts to, with `await`. Use it in one event loop, in an `async with`.

    `url` and `api_key` default to RENDERFARM_URL and RENDERFARM_API_KEY, then to the farm that
    `renderfarm up` runs in this folder. `timeout_s` is the longest time for one answer, `wait_s`
    for a wait that names no time. A call without an answer, or refused with 429 or 5xx, is retried
    `max_retries` times (6 last about 12 s, a farm's restart). `transport` is httpx's;
    `renderfarm.testing.FakeFarm` is one. `clock`, `sleep` and `jitter` are for tests. Raises
    FarmNotFound.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        wait_s: float = 600.0,
        max_retries: int = 6,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        address = _address.find(url, api_key, os.environ, given=transport is not None)
        self._policy = _flows.Policy(max_retries, clock=clock, random=jitter)
        self._transport = AsyncTransport(
            address, Limits(timeout_s, wait_s, self._policy), transport, sleep
        )

    @property
    def url(self) -> str:
        """The farm's URL."""
        return self._transport.address.url

    async def submit(
        self,
        prompt: str,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[JobFields],
    ) -> AsyncJob:
        """Submit a job and return at once. Raises InvalidRequest naming each bad field.

        Retries never submit it twice: each call has an idempotency key. With your own key, the same
        call from another process or after a crash gives the same job.
        """
        return await self._ask(_calls.submit({"prompt": prompt, **fields}, idempotency_key))

    async def submit_many(self, requests: Iterable[str | JobRequest]) -> tuple[AsyncJob, ...]:
        """Submit many prompts or whole requests, in batches of 1,000 that are all or nothing."""
        calls = _calls.submit_many(requests)
        accepted = [await self._transport.run(_flows.ask(call, self._policy)) for call in calls]
        return tuple(
            AsyncJob(self._transport, snapshot) for batch in accepted for snapshot in batch
        )

    async def render(
        self,
        prompt: str,
        *,
        timeout_s: float | None = None,
        **fields: Unpack[JobFields],
    ) -> AsyncImage:
        """Submit, wait, and return the one image.

        Raises the errors of `submit` and `AsyncJob.wait`.

        For several at once: `(await (await farm.submit(prompt, num_images=4)).wait()).images`.
        """
        _flows.check_one_image(fields)
        job = await self.submit(prompt, **fields)
        return (await job.wait(timeout_s)).images[0]

    async def job(self, job_id: str, *, appear_s: float | None = None) -> AsyncJob:
        """Find a job by its id. Raises NotFound.

        A job that was just sent to a queue may take a moment to appear: the request is repeated for
        `appear_s` seconds (None: 10 if the id was made in the last minute, otherwise 0).
        """
        wait_s = _flows.appearance_s(job_id, time.time()) if appear_s is None else appear_s
        return AsyncJob(
            self._transport, await self._transport.run(_flows.find(job_id, wait_s, self._policy))
        )

    async def list(
        self,
        *,
        status: types.Status | str | None = None,
        model: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[AsyncJob]:
        """Yield jobs, newest first: all of them, or `limit`. Pages are fetched as needed."""
        listing = _calls.Listing(status, model, limit)
        while call := listing.next_call():
            page = await self._transport.run(_flows.ask(call, self._policy))
            for snapshot in listing.take(page):
                yield AsyncJob(self._transport, snapshot)

    async def wait(self, job: AsyncJob | str, timeout: float | None = None) -> AsyncJob:  # noqa: ASYNC109
        """`AsyncJob.wait`, by handle or id."""
        return await (await self._known(job)).wait(timeout)

    async def cancel(self, job: AsyncJob | str) -> AsyncJob:
        """`AsyncJob.cancel`, by handle or id."""
        return await (await self._known(job)).cancel()

    async def events(
        self, job: AsyncJob | str, timeout_s: float | None = None
    ) -> AsyncIterator[types.Event]:
        """`AsyncJob.events`, by handle or id."""
        async for event in (await self._known(job)).events(timeout_s):
            yield event

    async def as_completed(
        self, jobs: Iterable[AsyncJob], *, timeout_s: float | None = None
    ) -> AsyncIterator[AsyncJob]:
        """Yield each job when it ends, in whatever state: see its `status` or `error`.

        Raises WaitTimeout if some continue after `timeout_s` (None: the farm's `wait_s`).
        """
        jobs = tuple(jobs)
        for job in jobs:
            if job.done:
                yield job
        handles = {job.id: job for job in jobs if not job.done}
        timeout_s = self._transport.limits.wait_s if timeout_s is None else timeout_s
        race = _flows.Race(handles, timeout_s, self._policy)
        while race.pending:
            for snapshot in await self._transport.run(race.round()):
                job = handles[snapshot.id]
                job.snapshot = snapshot
                yield job

    async def models(self) -> tuple[types.Model, ...]:
        """Return the models that the farm serves, with their limits."""
        return await self._transport.run(_flows.ask(_calls.models(), self._policy))

    async def upload(self, data: bytes) -> str:
        """Upload a picture; use the answer as `image`, `mask` or `control_image`."""
        return await self._transport.run(_flows.upload(data, self._policy))

    async def close(self) -> None:
        """Close the connections. Jobs continue by themselves."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncFarm {self.url}>"

    async def _ask(self, call: _calls.Call[types.Job]) -> AsyncJob:
        return AsyncJob(self._transport, await self._transport.run(_flows.ask(call, self._policy)))

    async def _known(self, job: AsyncJob | str) -> AsyncJob:
        return job if isinstance(job, AsyncJob) else await self.job(job)
