"""`RENDERFARM_SOURCES`: the queues that intake reads, each bound to a tenant."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from app.errors import SettingsError
from renderfarm.queues.registry import MODULES

VARIABLE = "RENDERFARM_SOURCES"
MAX_PRIORITY = 100
_TELLING = {"stream", "subscription"}
"""The options of a queue's URL that say which queue it is; the others say how it is read."""


@dataclass(frozen=True, slots=True)
class Source:
    """One queue, whose jobs its messages become, and what a message gets that names none."""

    url: str = field(repr=False)
    tenant: str
    model: str | None = None
    priority: int = 0

    @property
    def name(self) -> str:
        """The URL without what is secret or may change: what records and logs call the source."""
        parts = urlsplit(self.url)
        options = [pair for pair in parse_qsl(parts.query) if pair[0] in _TELLING]
        query = f"?{urlencode(options)}" if options else ""
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def read_sources(text: str) -> tuple[Source, ...]:
    """Read the setting; raises `SettingsError` naming the variable and the entry, not its URL."""
    try:
        entries = json.loads(text) if text else []
    except ValueError as error:
        raise SettingsError(f"{VARIABLE} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise SettingsError(f'{VARIABLE} must be a list: [{{"url": "...", "tenant": "..."}}]')
    sources = tuple(_read(f"{VARIABLE}[{n}]", entry) for n, entry in enumerate(entries))
    names = [source.name for source in sources]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SettingsError(f"{VARIABLE} names a queue twice: {', '.join(sorted(twice))}")
    return sources


def _read(where: str, entry: Any) -> Source:
    if not isinstance(entry, dict):
        raise SettingsError(f"{where} must be an object")
    known = [each.name for each in fields(Source)]
    if unknown := entry.keys() - set(known):
        raise SettingsError(f"{where} has an unknown field {min(unknown)!r}; known: {known}")
    for name in ("url", "tenant"):
        if not isinstance(entry.get(name), str) or not entry[name]:
            raise SettingsError(f"{where}.{name} must be a text")
    if _scheme(entry["url"]) not in MODULES:
        wanted = ", ".join(f"{scheme}://" for scheme in MODULES)
        raise SettingsError(f"{where}.url must start with one of {wanted}")
    if not isinstance(entry.get("model"), str | None):
        raise SettingsError(f"{where}.model must be a text")
    priority = entry.get("priority", 0)
    if type(priority) is not int or abs(priority) > MAX_PRIORITY:
        raise SettingsError(f"{where}.priority must be a whole number, -100 to 100")
    return Source(**entry)


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:  # such as an unclosed bracket in a password
        return ""
