"""The two loops that run flows on httpx: one blocks, the other awaits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from renderfarm import errors
from renderfarm._calls import Answer, Request
from renderfarm._flows import Flow, Policy, Sleep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from renderfarm._address import Address
    from renderfarm._events import Follow
    from renderfarm._flows import Action, Reply
    from renderfarm.types import Event

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits: how long one answer and one wait may take, and how calls are retried."""

    timeout_s: float
    wait_s: float
    policy: Policy


class Transport:
    """Runs flows, blocking."""

    def __init__(
        self,
        address: Address,
        limits: Limits,
        transport: httpx.BaseTransport | None,
        sleep: Callable[[float], None],
    ) -> None:
        self.limits = limits
        self.address = address
        self._http = httpx.Client(transport=transport, headers={"User-Agent": "renderfarm-python"})
        self._sleep = sleep

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its value."""
        reply: Reply = None
        while True:
            try:
                action = flow.send(reply)
            except StopIteration as end:
                value: T = end.value
                return value
            reply = self._act(action)

    def stream(self, follow: Follow) -> Iterator[Event]:
        """Yield a job's events until its final state."""
        while True:
            try:
                with self._http.stream(**self._arguments(follow.request)) as response:
                    if response.is_success:
                        for chunk in response.iter_bytes():
                            yield from follow.feed(chunk)
                            if follow.done:
                                return
                    else:
                        response.read()
                        follow.failed(_answer(response))
            except httpx.RequestError as error:
                follow.failed(_lost(error))
            self._sleep(follow.pause_s())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _act(self, action: Action) -> Reply:
        if isinstance(action, Sleep):
            self._sleep(action.seconds)
            return None
        try:
            return _answer(
                self._http.request(**self._arguments(action), follow_redirects=action.public),
            )
        except httpx.RequestError as error:
            return _lost(error)

    def _arguments(self, request: Request) -> dict[str, Any]:
        return _arguments(request, self.address, self.limits)


class AsyncTransport:
    """Runs flows, awaiting."""

    def __init__(
        self,
        address: Address,
        limits: Limits,
        transport: httpx.AsyncBaseTransport | None,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.limits = limits
        self.address = address
        headers = {"User-Agent": "renderfarm-python"}
        self._http = httpx.AsyncClient(transport=transport, headers=headers)
        self._sleep = sleep

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its value."""
        reply: Reply = None
        while True:
            try:
                action = flow.send(reply)
            except StopIteration as end:
                value: T = end.value
                return value
            reply = await self._act(action)

    async def stream(self, follow: Follow) -> AsyncIterator[Event]:
        """Yield a job's events until its final state."""
        while True:
            try:
                async with self._http.stream(**self._arguments(follow.request)) as response:
                    if response.is_success:
                        async for chunk in response.aiter_bytes():
                            for event in follow.feed(chunk):
                                yield event
                            if follow.done:
                                return
                    else:
                        await response.aread()
                        follow.failed(_answer(response))
            except httpx.RequestError as error:
                follow.failed(_lost(error))
            await self._sleep(follow.pause_s())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _act(self, action: Action) -> Reply:
        if isinstance(action, Sleep):
            await self._sleep(action.seconds)
            return None
        arguments = self._arguments(action)
        try:
            return _answer(
                await self._http.request(**arguments, follow_redirects=action.public),
            )
        except httpx.RequestError as error:
            return _lost(error)

    def _arguments(self, request: Request) -> dict[str, Any]:
        return _arguments(request, self.address, self.limits)


def _arguments(request: Request, address: Address, limits: Limits) -> dict[str, Any]:
    timeout_s = request.timeout_s or limits.timeout_s
    key = {} if request.public else {"Authorization": f"Bearer {address.api_key}"}
    return {
        "method": request.method,
        "url": request.url if request.public else address.url + request.url,
        # httpx replaces a URL's own query, which here is the signature, by any params except None.
        "params": dict(request.params) or None,
        "headers": {**request.headers, **key},
        "content": request.content,
        "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
    }


def _answer(response: httpx.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.content)


def _lost(error: httpx.RequestError) -> errors.TransportError:
    url = error.request.url
    reason = str(error) or type(error).__name__
    lost = errors.TransportError(f"no answer from {url.scheme}://{url.netloc.decode()}: {reason}")
    lost.__cause__ = error
    return lost
