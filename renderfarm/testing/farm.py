"""`FakeFarm`: an httpx transport that answers like a farm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from renderfarm.testing._fake_api import FakeApi, Refusal
from renderfarm.types import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class FakeFarm(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Pass it as `transport` to `Farm` or `AsyncFarm`.

    It accepts and refuses requests, keeps idempotency keys, lists, cancels, streams events and
    serves real PNG files, each of one colour. A job advances one stage each time it is read, and to
    its end when it is waited for. With `held=True` jobs keep their state until you `advance`,
    `finish` or `expire` them.
    """

    def __init__(self, *, models: Iterable[str] = ("scenes",), held: bool = False) -> None:
        self._api = FakeApi(models, held=held)
        self._planned_failures: list[Callable[[], None]] = []
        self._answers_to_lose = 0

    @property
    def requests(self) -> tuple[dict[str, Any], ...]:
        """The accepted requests, unchanged."""
        return tuple(self._api.requests)

    @property
    def uploads(self) -> Mapping[str, bytes]:
        """The uploads, by key."""
        return dict(self._api.uploads)

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The ids of the jobs, in the order of `requests`."""
        return tuple(self._api.jobs)

    def advance(self, job_id: str) -> None:
        """Advance a held job one stage."""
        self._api.jobs[job_id].advance()

    def finish(self, job_id: str) -> None:
        """Advance a held job to its end."""
        self._api.jobs[job_id].finish()

    def expire(self, job_id: str) -> None:
        """Let a job's deadline pass."""
        self._api.jobs[job_id].end(Status.EXPIRED)

    def fail_next(
        self, code: str = "render_failed", message: str = "the test made this job fail"
    ) -> None:
        """Let the next accepted job end as failed."""
        self._api.planned_errors.append({"code": code, "message": message})

    def refuse_next(self, status: int, code: str, *, retry_after_s: int | None = None) -> None:
        """Answer the next call with this status, 429 or 503 for example."""

        def refuse() -> None:
            refusal = Refusal(status, code, f"the test refused with {status}")
            if retry_after_s is not None:
                refusal.headers["Retry-After"] = str(retry_after_s)
            raise refusal

        self._planned_failures.append(refuse)

    def disconnect_next(self) -> None:
        """Break the connection of the next call before the farm receives it."""

        def disconnect() -> None:
            raise httpx.ConnectError("the test broke this connection")

        self._planned_failures.append(disconnect)

    def lose_next_answer(self) -> None:
        """Process the next call, but lose its answer: only a correct retry handles this."""
        self._answers_to_lose += 1

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a call of `Farm`."""
        return self._answer(request, request.read())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a call of `AsyncFarm`."""
        return self._answer(request, await request.aread())

    def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        if self._planned_failures:
            try:
                self._planned_failures.pop(0)()
            except Refusal as refusal:
                return refusal.response
        try:
            response = self._api.answer(request, body)
        except Refusal as refusal:
            response = refusal.response
        if self._answers_to_lose:
            self._answers_to_lose -= 1
            raise httpx.ReadError("the test lost this answer")
        return response
