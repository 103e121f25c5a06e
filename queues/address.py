"""A queue's URL, parsed and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from renderfarm.queues.errors import BadAddress

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_LEASE_S = 30.0
DEFAULT_MAX_DELIVERIES = 5


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of `scheme://host/path?option=value`.

    `server` has everything before the options.
    """

    scheme: str
    host: str
    path: str
    server: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL. Raises `BadAddress` if it has no host."""
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        if not host:
            raise BadAddress(f"{parts.scheme}:// must be followed by a name")
        return cls(
            scheme=parts.scheme,
            host=unquote(host),
            path=unquote(parts.path.strip("/")),
            server=f"{parts.scheme}://{parts.netloc}{parts.path}",
            options=dict(parse_qsl(parts.query, keep_blank_values=True)),
        )

    def allow(self, *names: str) -> None:
        """Raise `BadAddress` for an option that is not among `names`, a typo for example."""
        for name in self.options:
            if name not in names:
                known = ", ".join(names) or "none"
                raise BadAddress(f"{self.scheme}:// has no option {name!r}; it has: {known}")

    def need(self, name: str) -> str:
        """Return a required option."""
        if value := self.options.get(name):
            return value
        raise BadAddress(f"{self.scheme}:// needs ?{name}=")

    def number(self, name: str, default: float, least: float) -> float:
        """Return an option that is a number of at least `least`."""
        text = self.options.get(name, str(default))
        try:
            value = float(text)
        except ValueError:
            raise BadAddress(f"{name} must be a number, not {text!r}") from None
        if not least <= value < float("inf"):
            raise BadAddress(f"{name} must be at least {least:g}, not {text}")
        return value

    @property
    def lease_s(self) -> float:
        """Return the lease of a message (visibility timeout): `?lease_s=`, default 30 s."""
        return self.number("lease_s", DEFAULT_LEASE_S, 0.01)

    @property
    def max_deliveries(self) -> int:
        """Return how often a message is delivered before it becomes a dead letter.

        `?max_deliveries=`, default 5.
        """
        return int(self.number("max_deliveries", DEFAULT_MAX_DELIVERIES, 1))
