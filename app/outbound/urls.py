"""SSRF guard, URLs: which URLs a customer may name, by form alone, before anything is resolved.

This check is early and incomplete: `app.outbound.client` checks the addresses behind a name at each
connection.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from app.errors import FarmError
from app.outbound.addresses import Address, is_public

MAX_URL_CHARS = 2048
DEFAULT_PORTS = {"https": 443, "http": 80}

VISIBLE = re.compile(r"[!-\[\]-~]+")  # ASCII without the backslash, on which parsers disagree
NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*\.?")
ENDS_IN_A_NUMBER = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)\.?")


class ForbiddenUrl(FarmError):
    """The farm never sends a request to this URL.

    The message continues "the URL", or the name of a field: "names no host".
    """


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL, parsed once, so that the check and the connection use the same host."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str


def check_url(url: str, *, allow_private: bool = False) -> None:
    """Refuse a URL that is forbidden, with `ForbiddenUrl`. Resolves nothing."""
    parse_url(url, allow_private=allow_private)


def parse_url(url: str, *, allow_private: bool = False) -> Target:
    """Parse a URL. Raises `ForbiddenUrl`.

    Only https to public hosts is allowed; with `allow_private`, also http and any address.
    """
    if len(url) > MAX_URL_CHARS:
        raise ForbiddenUrl(f"is longer than {MAX_URL_CHARS} characters")
    if not VISIBLE.fullmatch(url):
        raise ForbiddenUrl(
            "may hold visible ASCII characters only, and no backslash; "
            "percent-encode its path and write its host in xn-- form"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ForbiddenUrl(f"cannot be read: {error}") from error
    _check_scheme(parts, allow_private=allow_private)
    host = _checked_host(parts, allow_private=allow_private)
    return Target(
        scheme=parts.scheme,
        host=host,
        port=_checked_port(port, parts.scheme, allow_private=allow_private),
        authority=parts.netloc,
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )


def _check_scheme(parts: SplitResult, *, allow_private: bool) -> None:
    allowed = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in allowed:
        raise ForbiddenUrl(f"must begin with {' or '.join(f'{a}://' for a in allowed)}")


def _checked_host(parts: SplitResult, *, allow_private: bool) -> str:
    if "@" in parts.netloc:
        raise ForbiddenUrl("may not hold a user name or a password")
    host = parts.hostname
    if not host:
        raise ForbiddenUrl("names no host")
    literal = _literal(host)
    if literal is None:
        _check_name(host, allow_private=allow_private)
    elif not allow_private and not is_public(literal):
        raise ForbiddenUrl("has an address that is not public")
    return host


def _literal(host: str) -> Address | None:
    if "%" in host:  # a zone, or a percent-encoded name; a public URL has neither
        raise ForbiddenUrl("may not have a percent sign in its host")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _check_name(host: str, *, allow_private: bool) -> None:
    if ENDS_IN_A_NUMBER.fullmatch(host):
        # The C library reads 2130706433, 0x7f.1 and 0177.0.0.1 as addresses, which customers
        # mistype.
        raise ForbiddenUrl("must write an address as four decimal numbers")
    if not NAME.fullmatch(host):
        raise ForbiddenUrl("has a host that is no host name")
    name = host.rstrip(".")
    if not allow_private and (name == "localhost" or name.endswith(".localhost")):
        raise ForbiddenUrl("has a host that is not public")


def _checked_port(port: int | None, scheme: str, *, allow_private: bool) -> int:
    if port is None:
        return DEFAULT_PORTS[scheme]
    if port == 0:
        raise ForbiddenUrl("may not have port 0")
    # Below 1024 there are mail, shells and file shares, which a POST must not reach.
    if not allow_private and port < 1024 and port != DEFAULT_PORTS[scheme]:
        raise ForbiddenUrl("must have port 443, or one from 1024 up")
    return port
