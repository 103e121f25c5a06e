"""Customers' endpoints, on loopback, for the courier to post to."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

PATIENCE_S = 60.0  # only a test that fails waits this long


@dataclass(frozen=True, slots=True)
class Request:
    """What an endpoint was sent."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Endpoint:
    """A customer's endpoint: gives its answers in turn, then repeats the last one.

    While `open` is not set it reads requests and does not answer.
    """

    answers: list[bytes]
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook?token=secret"

    async def got(self, count: int) -> None:
        """Wait until this many requests have come."""
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(lambda: len(self.requests) >= count)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
            headers = {name.lower(): value for name, _, value in lines}
            body = await reader.readexactly(int(headers["content-length"]))
            async with self.changed:
                self.requests.append(Request(headers, body))
                self.changed.notify_all()
            await self.open.wait()
            writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the courier was killed, which is what the test is about
        finally:
            writer.close()


def answer(status: str, *headers: str, body: str = "") -> bytes:
    """An HTTP answer, after which the connection ends."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", body]).encode()


@asynccontextmanager
async def endpoint(*answers: bytes, is_open: bool = True) -> AsyncIterator[Endpoint]:
    """A listening endpoint."""
    customer = Endpoint(list(answers) or [answer("200 OK")])
    if is_open:
        customer.open.set()
    server = await asyncio.start_server(customer.handle, "127.0.0.1", 0)
    customer.port = server.sockets[0].getsockname()[1]
    try:
        yield customer
    finally:
        customer.open.set()
        server.close()
