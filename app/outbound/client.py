"""Outbound: the HTTP client for URLs that customers name, guarded against SSRF where it connects.

A name is resolved once. All of its addresses must be public, and the client connects to exactly the
address that it has checked, so that DNS cannot change in between (DNS rebinding). TLS still
verifies the name. The client follows no redirect and reads no proxy from the environment.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import httpcore

from app.errors import FarmError
from app.outbound.addresses import is_public
from app.outbound.urls import ForbiddenUrl, Target, check_url, parse_url

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

__all__ = [
    "ForbiddenAddress",
    "ForbiddenUrl",
    "GuardedBackend",
    "Outbound",
    "OutboundError",
    "Resolve",
    "Resolver",
    "Response",
    "check_url",
]

CONNECT_S = 5.0
MAX_DIALS = 3
KEEPALIVE_S = 5.0
USER_AGENT = "Renderfarm-Webhooks/1"

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Return the addresses of a host, for a port. Raises OSError if there are none."""


class OutboundError(FarmError):
    """A request got no answer. The message says why, in words for the URL's owner."""


class ForbiddenAddress(OutboundError):
    """The host has an address that is not public. The message does not show the address."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: its status, its headers (lower-case names) and the beginning of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """The network backend of httpcore, limited to public addresses.

    `allow_private` lifts this limit, for tests and private networks.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        allow_private: bool = False,
        dialler: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self.allow_private = allow_private
        self._resolve = resolve
        self._dialler = dialler or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's own signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the checked addresses of `host`, one after the other, until one answers."""
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in (await self._checked(host, port))[:MAX_DIALS]:
            try:
                return await self._dialler.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no customer's URL leads to a Unix socket."""
        raise ForbiddenAddress(f"{path} is a socket file")

    async def sleep(self, seconds: float) -> None:
        """Wait, as httpcore does between its own tries."""
        await asyncio.sleep(seconds)

    async def _checked(self, host: str, port: int) -> list[str]:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} does not resolve") from error
        # One private address is enough to refuse: a name with both kinds is an attack or a mistake.
        public = all(is_public(ipaddress.ip_address(address)) for address in addresses)
        if not public and not self.allow_private:
            raise ForbiddenAddress(f"{host} has an address that is not public")
        return addresses


class Resolver:
    """The system's resolver, in its own threads.

    A name server that never answers holds a thread for as long as the C library waits. These are
    customers' name servers, so their threads are separate from those of the database.
    """

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Resolve once. The addresses come in the system's order of preference."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(sockaddr[0]) for *_, sockaddr in found]

    def close(self) -> None:
        """Start no further lookup."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Outbound:
    """Sends requests to customers' URLs. One per process; many tasks may use it at once.

    `limit_s` limits a whole request, from the lookup to the last byte read. `limit_bytes` is how
    much of an answer's body is read.
    """

    def __init__(
        self,
        network: GuardedBackend,
        *,
        limit_s: float = 15.0,
        limit_bytes: int = 1024,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._allow_private = network.allow_private
        self._limit_s = limit_s
        self._limit_bytes = limit_bytes
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or httpcore.default_ssl_context(),
            max_connections=None,  # the courier has its own limits
            max_keepalive_connections=64,
            keepalive_expiry=KEEPALIVE_S,
            network_backend=network,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.aclose()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """POST once. Raises `ForbiddenUrl` for a forbidden URL, otherwise `OutboundError`."""
        return await self._once("POST", url, headers, body)

    async def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """GET once, by the same rules: no redirect, public addresses only."""
        return await self._once("GET", url, headers, b"")

    async def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        target = parse_url(url, allow_private=self._allow_private)
        try:
            async with asyncio.timeout(self._limit_s):
                return await self._send(_request(method, target, headers, body))
        except TimeoutError as error:
            raise OutboundError(f"no answer within {self._limit_s:g} s") from error
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
        ) as error:
            raise OutboundError(_words(error)) from error

    async def _send(self, request: httpcore.Request) -> Response:
        response = await self._pool.handle_async_request(request)
        try:
            body = await self._beginning(response)
        finally:
            await response.aclose()
        headers = {
            name.decode("ascii").lower(): value.decode("latin-1")
            for name, value in response.headers
        }
        return Response(response.status, headers, body)

    async def _beginning(self, response: httpcore.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) >= self._limit_bytes:
                break
        return bytes(body[: self._limit_bytes])


def _request(
    method: str, target: Target, headers: Mapping[str, str], body: bytes
) -> httpcore.Request:
    url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
    always = {
        "Host": target.authority,
        "User-Agent": USER_AGENT,
        **({"Content-Length": str(len(body))} if method == "POST" else {}),
    }
    return httpcore.Request(
        method,
        url,
        headers=list((always | dict(headers)).items()),
        content=body,
        extensions={"timeout": {"connect": CONNECT_S}},
    )


def _words(error: Exception) -> str:
    if isinstance(error, httpcore.ConnectTimeout):
        return f"no connection within {CONNECT_S:g} s"
    return str(error) or type(error).__name__
