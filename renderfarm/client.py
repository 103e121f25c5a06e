"""`Farm`, the blocking client. `async_client` is its twin; both run the flows of `_flows`."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Self, Unpack

from renderfarm import _address, _calls, _events, _files, _flows, _views
from renderfarm._transport import Limits, Transport
from renderfarm.types import StateEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    import httpx
    import PIL.Image

    from renderfarm import types
    from renderfarm.request import JobFields, JobRequest


class Image(_views.ImageView):
    """One image of a finished job, in the farm's storage."""

    def __init__(self, transport: Transport, job_id: str, index: int, info: types.Image) -> None:
        self.info = info
        self._transport = transport
        self._job_id = job_id
        self._index = index

    def bytes(self) -> bytes:
        """Download the file. Raises DownloadError if it does not arrive whole."""
        policy = self._transport.limits.policy
        return self._transport.run(_flows.download(self._job_id, self._index, self.info, policy))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Download into a file, whole or not at all, in a folder that exists. Return its path."""
        return _files.write(_files.writable(path), self.bytes())

    def pil(self) -> PIL.Image.Image:
        """Download and open with Pillow (`pip install 'renderfarm[images]'`)."""
        return _files.pil(self.bytes())


class Job(_views.JobView):
    """A handle on one job.

    Its properties show the farm's last answer. Only its methods make requests.
    """

    def __init__(self, transport: Transport, snapshot: types.Job) -> None:
        self.snapshot = snapshot
        self._transport = transport

    @property
    def images(self) -> tuple[Image, ...]:
        """The images, in the order of their seeds; empty before the job succeeded."""
        infos = enumerate(self.snapshot.images)
        return tuple(Image(self._transport, self.id, index, info) for index, info in infos)

    def refresh(self) -> Self:
        """Read the job's current state from the farm."""
        self._update(
            self._transport.run(_flows.ask(_calls.job(self.id), self._transport.limits.policy))
        )
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the job succeeded, at most `timeout` seconds (None: the farm's `wait_s`).

        Raises JobFailed, JobCancelled or JobExpired if it ended otherwise, WaitTimeout if it
        continues. While the farm is unavailable, the wait goes on.
        """
        limits = self._transport.limits
        timeout_s = limits.wait_s if timeout is None else timeout
        job = self._transport.run(_flows.wait(self.id, timeout_s, self._update, limits.policy))
        _flows.succeeded(job)
        return self

    def cancel(self) -> Self:
        """Cancel the job. Raises Conflict if it has ended otherwise."""
        self._update(self._transport.run(_flows.cancel(self.id, self._transport.limits.policy)))
        return self

    def events(self, timeout_s: float | None = None) -> Iterator[types.Event]:
        """Yield what happens to the job, ending with its final state.

        Reconnects by itself. Raises WaitTimeout after `timeout_s` (None: the farm's `wait_s`).
        """
        limits = self._transport.limits
        timeout_s = limits.wait_s if timeout_s is None else timeout_s
        for event in self._transport.stream(
            _events.Follow(self.snapshot, timeout_s, limits.policy)
        ):
            if isinstance(event, StateEvent):
                self._update(event.job)
            yield event

    def _update(self, snapshot: types.Job) -> None:
        self.snapshot = snapshot


class Farm:
    """A farm to send prompts to. Threads may share it. Close it, or use it in a `with`.

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
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        address = _address.find(url, api_key, os.environ, given=transport is not None)
        self._policy = _flows.Policy(max_retries, clock=clock, random=jitter)
        self._transport = Transport(
            address, Limits(timeout_s, wait_s, self._policy), transport, sleep
        )

    @property
    def url(self) -> str:
        """The farm's URL."""
        return self._transport.address.url

    def submit(
        self,
        prompt: str,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[JobFields],
    ) -> Job:
        """Submit a job and return at once. Raises InvalidRequest naming each bad field.

        Retries never submit it twice: each call has an idempotency key. With your own key, the same
        call from another process or after a crash gives the same job.
        """
        return self._ask(_calls.submit({"prompt": prompt, **fields}, idempotency_key))

    def submit_many(self, requests: Iterable[str | JobRequest]) -> tuple[Job, ...]:
        """Submit many prompts or whole requests, in batches of 1,000 that are all or nothing."""
        calls = _calls.submit_many(requests)
        accepted = [self._transport.run(_flows.ask(call, self._policy)) for call in calls]
        return tuple(Job(self._transport, snapshot) for batch in accepted for snapshot in batch)

    def render(
        self,
        prompt: str,
        *,
        timeout_s: float | None = None,
        **fields: Unpack[JobFields],
    ) -> Image:
        """Submit, wait, and return the one image.

        Raises the errors of `submit` and `Job.wait`.

        For several at once: `farm.submit(prompt, num_images=4).wait().images`.
        """
        _flows.check_one_image(fields)
        return self.submit(prompt, **fields).wait(timeout_s).images[0]

    def job(self, job_id: str, *, appear_s: float | None = None) -> Job:
        """Find a job by its id. Raises NotFound.

        A job that was just sent to a queue may take a moment to appear: the request is repeated for
        `appear_s` seconds (None: 10 if the id was made in the last minute, otherwise 0).
        """
        wait_s = _flows.appearance_s(job_id, time.time()) if appear_s is None else appear_s
        return Job(self._transport, self._transport.run(_flows.find(job_id, wait_s, self._policy)))

    def list(
        self,
        *,
        status: types.Status | str | None = None,
        model: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Yield jobs, newest first: all of them, or `limit`. Pages are fetched as needed."""
        listing = _calls.Listing(status, model, limit)
        while call := listing.next_call():
            page = self._transport.run(_flows.ask(call, self._policy))
            for snapshot in listing.take(page):
                yield Job(self._transport, snapshot)

    def wait(self, job: Job | str, timeout: float | None = None) -> Job:
        """`Job.wait`, by handle or id."""
        return self._known(job).wait(timeout)

    def cancel(self, job: Job | str) -> Job:
        """`Job.cancel`, by handle or id."""
        return self._known(job).cancel()

    def events(self, job: Job | str, timeout_s: float | None = None) -> Iterator[types.Event]:
        """`Job.events`, by handle or id."""
        return self._known(job).events(timeout_s)

    def as_completed(self, jobs: Iterable[Job], *, timeout_s: float | None = None) -> Iterator[Job]:
        """Yield each job when it ends, in whatever state: see its `status` or `error`.

        Raises WaitTimeout if some continue after `timeout_s` (None: the farm's `wait_s`).
        """
        jobs = tuple(jobs)
        yield from (job for job in jobs if job.done)
        handles = {job.id: job for job in jobs if not job.done}
        timeout_s = self._transport.limits.wait_s if timeout_s is None else timeout_s
        race = _flows.Race(handles, timeout_s, self._policy)
        while race.pending:
            for snapshot in self._transport.run(race.round()):
                job = handles[snapshot.id]
                job.snapshot = snapshot
                yield job

    def models(self) -> tuple[types.Model, ...]:
        """Return the models that the farm serves, with their limits."""
        return self._transport.run(_flows.ask(_calls.models(), self._policy))

    def upload(self, data: bytes) -> str:
        """Upload a picture; use the answer as `image`, `mask` or `control_image`."""
        return self._transport.run(_flows.upload(data, self._policy))

    def close(self) -> None:
        """Close the connections. Jobs continue by themselves."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Farm {self.url}>"

    def _ask(self, call: _calls.Call[types.Job]) -> Job:
        return Job(self._transport, self._transport.run(_flows.ask(call, self._policy)))

    def _known(self, job: Job | str) -> Job:
        return job if isinstance(job, Job) else self.job(job)
