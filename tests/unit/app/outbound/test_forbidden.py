"""Customers' URLs reach public addresses only, whatever they are made of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.outbound.addresses import is_public
from app.outbound.client import ForbiddenAddress, GuardedBackend, Outbound, OutboundError, Resolver
from app.outbound.urls import ForbiddenUrl

if TYPE_CHECKING:
    import ipaddress

    from tests.unit.app.outbound.canary import Canary

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

# Hosts that parsers read in different ways: dots at the end, other digits, other dots, zones,
# escapes.
TRICKS = [
    "127.0.0.1.",
    "localhost.",
    "farm.localhost",
    "0x7f.0x0.0x0.0x1",
    "00000177.0.0.1",
    "127.000.000.001",
    "0:0:0:0:0:ffff:7f00:1",
    "::7f00:1",
    "::ffff:0a00:0001",
    "fe80::1%25lo",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "%31%32%37.0.0.1",
    "127.0.0.1%00.example.com",
    "169.254.169.254.",
    "0xa9.0xfe.0xa9.0xfe",
    "169.16689662",
    "3232235521",
    "0300.0250.0.1",
    "example.com@127.0.0.1",
    "127.0.0.1\\.example.com",
    "127.0.0.1#.example.com",
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


def in_url(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def test_there_are_a_hundred_targets() -> None:
    """The lists below are not cut short by accident, and name nothing twice."""
    assert len({*INSIDE, *SPELLINGS, *TRICKS}) >= 100


@pytest.mark.parametrize("host", [*INSIDE, *SPELLINGS, *TRICKS])
def test_no_url_reaches_an_inside_address(host: str, canary: Canary, resolver: Resolver) -> None:
    """A post to any spelling of an inside address is refused, and the canary sits untouched."""

    async def post() -> None:
        async with Outbound(GuardedBackend(resolver)) as outbound:
            await outbound.post(f"https://{in_url(host)}:{canary.port}/", {}, b"{}")

    with pytest.raises((ForbiddenUrl, ForbiddenAddress)):
        asyncio.run(post())
    assert canary.untouched


@pytest.mark.parametrize("host", [*INSIDE, *SPELLINGS])
def test_the_connector_refuses_inside_addresses_by_itself(host: str, resolver: Resolver) -> None:
    """Even if a URL slipped past the early check, the connector dials no inside address."""
    network = Diallers()
    backend = GuardedBackend(resolver, dialler=network)
    with pytest.raises((ForbiddenAddress, httpcore.ConnectError)) as refused:
        asyncio.run(backend.connect_tcp(host, 443))
    assert network.dialled == []
    assert isinstance(refused.value, ForbiddenAddress) or "does not resolve" in str(refused.value)


@pytest.mark.parametrize("address", INSIDE)
def test_a_name_with_an_inside_address_is_refused(address: str) -> None:
    """A name that leads inside is refused, alone or beside a public address, in either order."""
    network = Diallers()
    for answer in ([address], [PUBLIC, address], [address, PUBLIC]):
        backend = GuardedBackend(Names(answer), dialler=network)
        with pytest.raises(ForbiddenAddress) as refused:
            asyncio.run(backend.connect_tcp("hooks.example.com", 443))
        assert address not in str(refused.value).split()
    assert network.dialled == []


@pytest.mark.parametrize("address", OPEN)
def test_public_addresses_are_dialled(address: str) -> None:
    """The guard lets the open internet through, so the refusals above are not a closed door."""
    network = Diallers()
    backend = GuardedBackend(Names([address]), dialler=network)
    with pytest.raises(httpcore.ConnectError, match="nobody answers"):
        asyncio.run(backend.connect_tcp("hooks.example.com", 443))
    assert network.dialled == [address]


def test_a_name_is_resolved_once_and_the_checked_address_is_dialled() -> None:
    """A name server that changes its answer after the check gains nothing."""
    network, names = Diallers(), Names([PUBLIC], ["127.0.0.1"])
    backend = GuardedBackend(names, dialler=network)
    with pytest.raises(httpcore.ConnectError, match="nobody answers"):
        asyncio.run(backend.connect_tcp("rebinds.example.com", 443))
    assert (network.dialled, names.asked) == ([PUBLIC], 1)
    with pytest.raises(ForbiddenAddress):
        asyncio.run(backend.connect_tcp("rebinds.example.com", 443))
    assert network.dialled == [PUBLIC]


def test_addresses_are_dialled_in_turn_up_to_three() -> None:
    """When an address does not answer the next is dialled, but a long list is not walked."""
    network = Diallers()
    backend = GuardedBackend(Names([f"8.8.8.{n}" for n in range(9)]), dialler=network)
    with pytest.raises(httpcore.ConnectError):
        asyncio.run(backend.connect_tcp("hooks.example.com", 443))
    assert network.dialled == ["8.8.8.0", "8.8.8.1", "8.8.8.2"]


@pytest.mark.parametrize("answer", [OSError("no such host"), UnicodeError("label too long"), []])
def test_a_name_without_an_address_is_an_outbound_error(answer: Exception | list[str]) -> None:
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


def test_no_socket_file_is_opened() -> None:
    """The guarded network has no unix sockets in it."""
    with pytest.raises(ForbiddenAddress):
        asyncio.run(GuardedBackend(Names([PUBLIC])).connect_unix_socket("/run/docker.sock"))


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Our list is at least as strict as the standard library's."""
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        assert not is_public(address)
