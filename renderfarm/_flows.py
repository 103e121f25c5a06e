"""Flows: what the SDK does, step by step, as generators without I/O (sans-IO).

A flow yields what it needs (a `Request` to send, a `Sleep`) and receives the result. `Farm` and
`AsyncFarm` are the two loops that run flows, so retries, waiting and the rest are written once.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from renderfarm import _calls, errors
from renderfarm._calls import Answer, Call, Request
from renderfarm.types import Image, Job, Status

T = TypeVar("T")

SLICE_S = 20
"""The longest long poll; proxies commonly cut a silent connection after 30 or 60 s."""
EARLY_S = 0.25
"""An answer sooner than this was not held."""
APPEAR_S = 10.0
"""For how long `find` repeats its request for a job that was just sent to a queue."""
APPEAR_PAUSE_S = 0.25
FRESH_S = 60.0
"""An id that was made within this time may still be on its way through a queue."""
LONGEST_PAUSE_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0
"""If the farm asks for a longer pause, the call fails at once and the caller decides."""
RETRIED = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Sleep:
    """Pause the flow for this many seconds."""

    seconds: float


Action = Request | Sleep
Reply = Answer | errors.TransportError | None
Flow = Generator[Action, Reply, T]


@dataclass(frozen=True, slots=True)
class Policy:
    """The retry policy, with its clock. `until` limits by time instead of by count."""

    max_retries: int = 6
    until: float | None = None
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random

    def pause_s(self, error: errors.RenderfarmError, tried: int) -> float | None:
        """Return the pause before the next try after `tried` earlier ones; None to give up."""
        retry_after_s = None
        if isinstance(error, errors.ApiError):
            retry_after_s = error.retry_after_s
            if error.status not in RETRIED or (retry_after_s or 0) > LONGEST_RETRY_AFTER_S:
                return None
        pause_s = self.backoff_s(tried) if retry_after_s is None else retry_after_s
        if self.until is not None:
            return pause_s if self.clock() + pause_s < self.until else None
        return pause_s if tried < self.max_retries else None

    def backoff_s(self, tried: int) -> float:
        """Return a pause that doubles, half of it random, so that clients do not synchronize.

        See "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("equal jitter").
        """
        full_s: float = min(LONGEST_PAUSE_S, 0.25 * 2 ** min(tried, 10))
        return full_s * (0.5 + 0.5 * self.random())


def upload(data: bytes, policy: Policy) -> Flow[str]:
    """Get a presigned URL, PUT the file there, and return its key."""
    target = yield from ask(_calls.create_upload(), policy)
    yield from ask(_calls.put_upload(target, data), policy)
    return target.key


def ask(call: Call[T], policy: Policy) -> Flow[T]:
    """Send a call until it has a final answer. Raises its ApiError, TransportError, BadAnswer."""
    tried = 0
    while True:
        reply = yield call.request
        if isinstance(reply, Answer) and reply.status < 400:
            return call.read(reply)
        error = failure(reply)
        pause_s = policy.pause_s(error, tried)
        if pause_s is None:
            raise error
        yield Sleep(pause_s)
        tried += 1


def failure(reply: Reply) -> errors.RenderfarmError:
    """Return the error of a failed reply or a refusal."""
    if isinstance(reply, Answer):
        return _calls.problem(reply, datetime.now(UTC))
    assert reply is not None  # noqa: S101 - only a Sleep is answered with nothing
    return reply


def find(job_id: str, appear_s: float, policy: Policy) -> Flow[Job]:
    """Read the job. Repeat this for `appear_s` seconds if there is none. Raises NotFound.

    The farm knows a job that was sent to a queue only after intake has read the message.
    """
    deadline = policy.clock() + appear_s
    while True:
        try:
            return (yield from ask(_calls.job(job_id), policy))
        except errors.NotFound:
            if policy.clock() + APPEAR_PAUSE_S > deadline:
                raise
        yield Sleep(APPEAR_PAUSE_S)


def appearance_s(job_id: str, now_s: float) -> float:
    """Return how long a job may take to appear: `APPEAR_S` if its id is new, otherwise nothing.

    Ids of version 7 begin with their time in milliseconds (RFC 9562, section 5.7).
    """
    try:
        parsed = UUID(job_id)
    except ValueError:
        return 0.0
    fresh = parsed.version == 7 and abs(now_s - (parsed.int >> 80) / 1000) < FRESH_S
    return APPEAR_S if fresh else 0.0


def poll(job_id: str, until: float, policy: Policy) -> Flow[Job]:
    """Read the job once; the farm holds its answer until the job is final, or `until` is near."""
    sent_at = policy.clock()
    hold_s = max(0, min(SLICE_S, round(until - sent_at)))
    job = yield from ask(_calls.job(job_id, hold_s), policy)
    now = policy.clock()
    if not job.done and now < min(until, sent_at + EARLY_S):
        # The farm did not hold the answer, for example because it is about to stop: pause before
        # the next request.
        yield Sleep(min(EARLY_S, until - now))
    return job


def wait(
    job_id: str, timeout_s: float, on_state: Callable[[Job], None], policy: Policy
) -> Flow[Job]:
    """Wait until the job is final, over restarts of the farm. `on_state` is called with each state.

    Raises WaitTimeout if it is not final after `timeout_s`.
    """
    deadline = policy.clock() + timeout_s
    until_deadline = replace(policy, until=deadline)
    while True:
        job = yield from poll(job_id, deadline, until_deadline)
        on_state(job)
        if job.done:
            return job
        if policy.clock() >= deadline:
            raise errors.WaitTimeout(job, timeout_s)


def succeeded(job: Job) -> Job:
    """Return the job if it has its images. Raises the error of its end otherwise."""
    if job.status in errors.BY_STATE:
        raise errors.BY_STATE[job.status](job)
    return job


def check_one_image(fields: Mapping[str, object]) -> None:
    """Check that a call which returns one image asks for one. Raises ValueError."""
    if fields.get("num_images", 1) != 1:
        raise ValueError("render() gives one image: use submit(...).wait().images for more")


def cancel(job_id: str, policy: Policy) -> Flow[Job]:
    """Cancel a job, also one that is already cancelled.

    Raises Conflict if it has ended otherwise.
    """
    try:
        return (yield from ask(_calls.cancel(job_id), policy))
    except errors.Conflict:
        # Perhaps an earlier try of this call cancelled it, and the answer was lost.
        job = yield from ask(_calls.job(job_id), policy)
        if job.status is Status.CANCELLED:
            return job
        raise


def download(job_id: str, index: int, image: Image, policy: Policy) -> Flow[bytes]:
    """Fetch an image and check its SHA-256; an expired URL is renewed by reading the job."""
    last_error: errors.RenderfarmError | None = None
    for last in (False, False, True):
        try:
            body = yield from ask(_calls.download(image.url), policy)
        except errors.ApiError as error:
            last_error = error
        else:
            if hashlib.sha256(body).hexdigest() == image.sha256:
                return body
            last_error = errors.DownloadError(f"{len(body)} bytes arrived with another SHA-256")
        if not last:
            image = (yield from ask(_calls.job(job_id), policy)).images[index]
    raise errors.DownloadError(f"image {index} of job {job_id}: {last_error}") from last_error


class Race:
    """Which of many jobs ends next. Each round costs about one request per hundred jobs."""

    def __init__(self, job_ids: Iterable[str], timeout_s: float, policy: Policy) -> None:
        self.pending = dict.fromkeys(job_ids)
        self._timeout_s = timeout_s
        self._deadline = policy.clock() + timeout_s
        self._policy = replace(policy, until=self._deadline)

    def round(self) -> Flow[list[Job]]:
        """Return the jobs that ended since the last round.

        Raises WaitTimeout when the time is over.

        The newest jobs are read page by page. If none of them has ended, the flow waits for one
        pending job, each in its turn, so that it misses no job that is too old for those pages.
        """
        ended = yield from self._sweep()
        if not ended:
            ended = yield from self._wait_for_one()
        for job in ended:
            del self.pending[job.id]
        return ended

    def _sweep(self) -> Flow[list[Job]]:
        ended: list[Job] = []
        cursor: str | None = None
        for _ in range(1 + len(self.pending) // _calls.PAGE_JOBS):
            page = yield from ask(_calls.list_jobs(cursor=cursor), self._policy)
            ended += [job for job in page.jobs if job.done and job.id in self.pending]
            cursor = page.cursor
            if cursor is None:
                break
        return list({job.id: job for job in ended}.values())

    def _wait_for_one(self) -> Flow[list[Job]]:
        job_id = next(iter(self.pending))
        self.pending[job_id] = self.pending.pop(job_id)
        poll_until = min(self._deadline, self._policy.clock() + 1)
        job = yield from poll(job_id, poll_until, self._policy)
        if not job.done and self._policy.clock() >= self._deadline:
            raise errors.WaitTimeout(job, self._timeout_s)
        return [job] if job.done else []
