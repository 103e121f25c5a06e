"""Posting to an endpoint, which may answer anything."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.outbound.client import GuardedBackend, Outbound, OutboundError

if TYPE_CHECKING:
    from tests.unit.app.outbound.canary import Canary

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A real server on loopback; gives its port."""
    async with await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]


def answering(answer: bytes) -> Handler:
    """Read a request's head, send the answer, hang up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return handle


def private() -> GuardedBackend:
    """The network of a farm of one's own, where each name is this machine."""

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    return GuardedBackend(resolve, allow_private=True)


def test_a_redirect_is_an_answer_and_is_not_followed(canary: Canary) -> None:
    """A redirect to loopback comes back as its status; nobody goes there."""
    answer = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{canary.port}/\r\n\r\n"

    async def post() -> int:
        async with (
            serving(answering(answer.encode())) as port,
            Outbound(private()) as outbound,
        ):
            return (await outbound.post(f"http://hooks.test:{port}/", {}, b"{}")).status

    assert asyncio.run(post()) == 302
    assert canary.untouched


def test_proxies_of_the_environment_are_ignored(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in the environment would dial unchecked addresses for us, so none is used."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")

    async def post() -> int:
        answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        async with serving(answering(answer)) as port, Outbound(private()) as outbound:
            return (await outbound.post(f"http://hooks.test:{port}/", {}, b"{}")).status

    assert asyncio.run(post()) == 204
    assert canary.untouched


def test_only_the_beginning_of_an_answer_is_read() -> None:
    """A body without end costs its first bytes and no more."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 Oops\r\nRetry-After: 7\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
        except ConnectionError:
            pass

    async def post() -> tuple[int, str, bytes]:
        async with serving(handle) as port, Outbound(private(), limit_bytes=100) as outbound:
            response = await outbound.post(f"http://hooks.test:{port}/", {}, b"{}")
            return response.status, response.headers["retry-after"], response.body

    assert asyncio.run(post()) == (500, "7", b"x" * 100)


@pytest.mark.parametrize(
    "beginning", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow"]
)
def test_an_answer_that_does_not_come_in_time_is_none(beginning: bytes) -> None:
    """The time limit covers the whole answer, wherever it gets stuck."""
    over = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(beginning)
        await writer.drain()
        await over.wait()
        writer.close()

    async def post() -> None:
        async with serving(handle) as port, Outbound(private(), limit_s=0.2) as outbound:
            try:
                await outbound.post(f"http://hooks.test:{port}/", {}, b"{}")
            finally:
                over.set()

    with pytest.raises(OutboundError, match=r"no answer within 0\.2 s"):
        asyncio.run(post())


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nContent"])
def test_what_is_not_http_is_an_outbound_error(answer: bytes) -> None:
    """A server that hangs up or speaks another protocol fails the try."""

    async def post() -> None:
        async with serving(answering(answer)) as port, Outbound(private()) as outbound:
            await outbound.post(f"http://hooks.test:{port}/", {}, b"{}")

    with pytest.raises(OutboundError):
        asyncio.run(post())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of hooks.example.com, in one file."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    names = "subjectAltName=DNS:hooks.example.com"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        f"-subj /CN=hooks.example.com -addext {names} -keyout {file}.key -out {file}.crt".split(),
        check=True,
        capture_output=True,
    )
    file.write_text(Path(f"{file}.key").read_text() + Path(f"{file}.crt").read_text())
    return file


def tls(certificate: Path, asked: list[str | None]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context, which notes the names that it is asked for, and a client's."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    return server, ssl.create_default_context(cafile=f"{certificate}.crt")


async def post_over_tls(host: str, server: ssl.SSLContext, client: ssl.SSLContext) -> int:
    """Post to `host` at this machine's address; gives the status."""
    handler = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with (
        serving(handler, server) as port,
        Outbound(private(), ssl_context=client) as outbound,
    ):
        return (await outbound.post(f"https://{host}:{port}/", {}, b"{}")).status


def test_tls_asks_for_the_name_though_an_address_is_dialled(certificate: Path) -> None:
    """The server is told the URL's name, and its certificate is checked against that."""
    asked: list[str | None] = []
    assert asyncio.run(post_over_tls("hooks.example.com", *tls(certificate, asked))) == 200
    assert asked == ["hooks.example.com"]


def test_a_certificate_of_another_name_is_refused(certificate: Path) -> None:
    """A server that cannot show a certificate for the URL's name gets nothing."""
    asked: list[str | None] = []
    with pytest.raises(OutboundError, match="certificate"):
        asyncio.run(post_over_tls("other.test", *tls(certificate, asked)))
    assert asked == ["other.test"]
