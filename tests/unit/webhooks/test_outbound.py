"""Customers' URLs reach public addresses only, whatever they are made of."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.webhooks.addresses import is_public
from app.webhooks.outbound import (
    ForbiddenAddress,
    GuardedBackend,
    Outbound,
    OutboundError,
    Resolver,
)
from app.webhooks.urls import ForbiddenUrl

if TYPE_CHECKING:
    import ipaddress

PUBLIC = "93.184.215.14"

# Addresses that no customer may reach, in plain form.
INSIDE = [
    "0.0.0.0",  # noqa: S104  # dialled on Linux, it is loopback
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.0.0.53",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:53aa:64c:0:fbff:ac1e:a9fe",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]

# Other spellings of loopback and metadata addresses, all of which the C library resolves.
SPELLINGS = [
    "2130706433",
    "0x7f000001",
    "0X7F000001",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "127.1",
    "127.0.1",
    "0",
    "0.0",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "localhost",
    "LOCALHOST",
    "0:0:0:0:0:0:0:1",
    "::ffff:127.0.0.1",
]

OPEN = [PUBLIC, "8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1"]


class Diallers(httpcore.AsyncNetworkBackend):
    """A network with nobody in it, which remembers what was dialled."""

    def __init__(self) -> None:
        self.dialled: list[str] = []

    async def connect_tcp(self, host: str, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Remember the call, and let nobody answer."""
        self.dialled.append(host)
        raise httpcore.ConnectError("nobody answers")


class Names:
    """A name server whose answers are given, one after the other; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, _host: str, _port: int) -> list[str]:
        """Answer once."""
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Canary:
    """A listener on loopback that nothing may reach."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    @property
    def untouched(self) -> bool:
        """Whether nobody has connected."""
        try:
            self._socket.accept()
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    """A canary, shut after the test."""
    bird = Canary()
    yield bird
    bird.close()


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    """The system's own resolver."""
    system = Resolver(threads=2)
    yield system
    system.close()


def in_url(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


@pytest.mark.parametrize("host", [*INSIDE, *SPELLINGS])
def test_no_url_reaches_an_inside_address(host: str, canary: Canary, resolver: Resolver):
    """A post to any spelling of an inside address is refused, and the canary sits untouched."""

    async def post() -> None:
        async with Outbound(GuardedBackend(resolver)) as outbound:
            await outbound.post(f"https://{in_url(host)}:{canary.port}/", {}, b"{}")

    with pytest.raises((ForbiddenUrl, ForbiddenAddress)):
        asyncio.run(post())
    assert canary.untouched


@pytest.mark.parametrize("host", [*INSIDE, *SPELLINGS])
def test_the_connector_refuses_inside_addresses_by_itself(host: str, resolver: Resolver):
    """Even if a URL slipped past the early check, the connector dials no inside address."""
    network = Diallers()
    backend = GuardedBackend(resolver, dialler=network)
    with pytest.raises((ForbiddenAddress, httpcore.ConnectError)) as refused:
        asyncio.run(backend.connect_tcp(host, 443))
    assert network.dialled == []
    assert isinstance(refused.value, ForbiddenAddress) or "does not resolve" in str(refused.value)


@pytest.mark.parametrize("address", INSIDE)
def test_a_name_with_an_inside_address_is_refused(address: str):
    """A name that leads inside is refused, alone or beside a public address, in either order."""
    network = Diallers()
    for answer in ([address], [PUBLIC, address], [address, PUBLIC]):
        backend = GuardedBackend(Names(answer), dialler=network)
        with pytest.raises(ForbiddenAddress) as refused:
            asyncio.run(backend.connect_tcp("hooks.example.com", 443))
        assert address not in str(refused.value).split()
    assert network.dialled == []


@pytest.mark.parametrize("address", OPEN)
def test_public_addresses_are_dialled(address: str):
    """The guard lets the open internet through, so the refusals above are not a closed door."""
    network = Diallers()
    backend = GuardedBackend(Names([address]), dialler=network)
    with pytest.raises(httpcore.ConnectError, match="nobody answers"):
        asyncio.run(backend.connect_tcp("hooks.example.com", 443))
    assert network.dialled == [address]


def test_a_name_is_resolved_once_and_the_checked_address_is_dialled():
    """A name server that changes its answer after the check gains nothing."""
    network, names = Diallers(), Names([PUBLIC], ["127.0.0.1"])
    backend = GuardedBackend(names, dialler=network)
    with pytest.raises(httpcore.ConnectError, match="nobody answers"):
        asyncio.run(backend.connect_tcp("rebinds.example.com", 443))
    assert (network.dialled, names.asked) == ([PUBLIC], 1)
    with pytest.raises(ForbiddenAddress):
        asyncio.run(backend.connect_tcp("rebinds.example.com", 443))
    assert network.dialled == [PUBLIC]


def test_addresses_are_dialled_in_turn_up_to_three():
    """When an address does not answer the next is dialled, but a long list is not walked."""
    network = Diallers()
    backend = GuardedBackend(Names([f"8.8.8.{n}" for n in range(9)]), dialler=network)
    with pytest.raises(httpcore.ConnectError):
        asyncio.run(backend.connect_tcp("hooks.example.com", 443))
    assert network.dialled == ["8.8.8.0", "8.8.8.1", "8.8.8.2"]


@pytest.mark.parametrize("answer", [OSError("no such host"), UnicodeError("label too long"), []])
def test_a_name_without_an_address_is_an_outbound_error(answer: Exception | list[str]):
    """A name that does not resolve fails the try, and is not a crash."""

    async def resolve(_host: str, _port: int) -> list[str]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def post() -> None:
        async with Outbound(GuardedBackend(resolve)) as outbound:
            await outbound.post("https://hooks.example.com/", {}, b"{}")

    with pytest.raises(OutboundError, match=r"does not resolve|has no address"):
        asyncio.run(post())


def test_no_socket_file_is_opened():
    """The guarded network has no unix sockets in it."""
    with pytest.raises(ForbiddenAddress):
        asyncio.run(GuardedBackend(Names([PUBLIC])).connect_unix_socket("/run/docker.sock"))


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
):
    """Our list is at least as strict as the standard library's."""
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        assert not is_public(address)


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
    return GuardedBackend(Names(["127.0.0.1"]), allow_private=True)


def test_a_redirect_is_an_answer_and_is_not_followed(canary: Canary):
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


def test_proxies_of_the_environment_are_ignored(canary: Canary, monkeypatch: pytest.MonkeyPatch):
    """A proxy in the environment would dial unchecked addresses for us, so none is used."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")

    async def post() -> int:
        answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        async with serving(answering(answer)) as port, Outbound(private()) as outbound:
            return (await outbound.post(f"http://hooks.test:{port}/", {}, b"{}")).status

    assert asyncio.run(post()) == 204
    assert canary.untouched


def test_only_the_beginning_of_an_answer_is_read():
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
def test_an_answer_that_does_not_come_in_time_is_none(beginning: bytes):
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
def test_what_is_not_http_is_an_outbound_error(answer: bytes):
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


def test_tls_asks_for_the_name_though_an_address_is_dialled(certificate: Path):
    """The server is told the URL's name, and its certificate is checked against that."""
    asked: list[str | None] = []
    assert asyncio.run(post_over_tls("hooks.example.com", *tls(certificate, asked))) == 200
    assert asked == ["hooks.example.com"]


def test_a_certificate_of_another_name_is_refused(certificate: Path):
    """A server that cannot show a certificate for the URL's name gets nothing."""
    asked: list[str | None] = []
    with pytest.raises(OutboundError, match="certificate"):
        asyncio.run(post_over_tls("other.test", *tls(certificate, asked)))
    assert asked == ["other.test"]
