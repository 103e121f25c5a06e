"""`RENDERFARM_SOURCES`: the queues that intake reads, each with the tenant of its jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from app.config.types import Text, decoded, scheme
from app.config.validation import dotted, problems
from app.errors import SettingsError
from renderfarm.queues.registry import MODULES

VARIABLE = "RENDERFARM_SOURCES"
MAX_PRIORITY = 100
_NAMING = {"stream", "subscription"}
"""The options of a queue's URL that name the queue; the others set how it is read."""


def _queue_url(url: str) -> str:
    if scheme(url) not in MODULES:
        wanted = ", ".join(f"{name}://" for name in MODULES)
        raise ValueError(f"must start with one of {wanted}")
    return url


@dataclass(frozen=True, slots=True)
class Source:
    """One queue whose messages become jobs, and the defaults of those messages."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    url: Annotated[str, AfterValidator(_queue_url)] = field(repr=False)
    tenant: Text
    model: str | None = None
    priority: Annotated[int, Field(strict=True, ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = 0

    @property
    def name(self) -> str:
        """The name in the database and in logs: the URL without secrets and tuning options."""
        parts = urlsplit(self.url)
        options = [pair for pair in parse_qsl(parts.query) if pair[0] in _NAMING]
        query = f"?{urlencode(options)}" if options else ""
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


KEYS = tuple(Source.__dataclass_fields__)
"""The known keys of an entry."""


def _entries(text: str) -> Any:
    entries = decoded(text) if text else []
    if not isinstance(entries, list):
        raise ValueError('must be a list: [{"url": "...", "tenant": "..."}]')  # noqa: TRY004
    return entries


def _distinct(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    names = [source.name for source in sources]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"names a queue twice: {', '.join(sorted(repeated))}")
    return sources


Sources = Annotated[tuple[Source, ...], BeforeValidator(_entries), AfterValidator(_distinct)]
"""The type of the setting: a text of JSON becomes sources."""


def read_sources(text: str) -> tuple[Source, ...]:
    """Read the setting. `SettingsError` names the variable and each wrong entry, but no URL."""
    reader: TypeAdapter[tuple[Source, ...]] = TypeAdapter(Sources)
    try:
        return reader.validate_python(text)
    except ValidationError as error:
        found = problems(error, lambda _: KEYS, shown=lambda _: False)
        lines = [f"{dotted((VARIABLE, *place))} {text}" for place, text in found]
        raise SettingsError("\n".join(lines)) from None
