"""Types of settings: how the texts of variables become values, and the values of JSON and TOML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import core_schema, from_json

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydantic import GetCoreSchemaHandler

MIN_SECRET_CHARS = 16
MAX_TAGS = 10
TAG_KEY = re.compile(r"[A-Za-z0-9 +\-./:=_]{1,128}")
# A value may have 256 characters, and the id of a tenant takes 36 of them.
TAG_VALUE = re.compile(r"[A-Za-z0-9 +\-./:=_]{0,220}")

Whole = Annotated[int, Field(strict=True, ge=0)]
"""A whole number from 0 in JSON or TOML: neither a text nor `true`."""
Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
"""A finite number from 0 in JSON or TOML, also without a point."""
Flag = Annotated[bool, Field(strict=True)]
"""`true` or `false` in JSON or TOML: neither a text nor a number."""
Text = Annotated[str, Field(min_length=1)]
"""A text that is not empty."""


def scheme(url: str) -> str:
    """The scheme of a URL; empty if the text is no URL."""
    try:
        return urlsplit(url).scheme
    except ValueError:  # such as an unclosed bracket in a password
        return ""


def decoded(text: str) -> Any:
    """The value of a JSON text; raises `ValueError` with the end of a sentence."""
    try:
        return from_json(text)
    except ValueError as error:
        raise ValueError(f"must be JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Schemes:
    """Annotation of a URL that must have one of the schemes. A server not needed has no URL."""

    names: Collection[str]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Check after the type of the value."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def check(self, url: str) -> str:
        """Give the URL back. The message does not repeat it, because it may carry a password."""
        if url and scheme(url) not in self.names:
            wanted = ", ".join(f"{name}://" for name in self.names)
            raise ValueError(f"must start with one of {wanted}")
        return url


def _secret(value: str) -> str:
    if value and len(value) < MIN_SECRET_CHARS:
        raise ValueError(f"must have at least {MIN_SECRET_CHARS} characters")
    return value


def _switch(value: str) -> bool:
    if value not in {"0", "1"}:
        raise ValueError(f"must be 0 or 1, not {value!r}")
    return value == "1"


def _names(value: str) -> frozenset[str] | None:
    return frozenset(part.strip() for part in value.split(",") if part.strip()) or None


def _tags(value: str) -> tuple[tuple[str, str], ...]:
    parts = [part.partition("=") for part in value.split(",") if part.strip()]
    if any(not (key.strip() and equals and text.strip()) for key, equals, text in parts):
        raise ValueError("must be like name=value,other=value")
    tags = tuple((key.strip(), text.strip()) for key, _, text in parts)
    for key, text in tags:
        if not (TAG_KEY.fullmatch(key) and TAG_VALUE.fullmatch(text.replace("{tenant}", ""))):
            raise ValueError(
                f"may not have the tag {key}={text}: a tag has letters, digits, spaces and "
                "+ - . / : = _, up to 128 of them in its name and 220 in its value"
            )
    if len(dict(tags)) < len(tags) or len(tags) > MAX_TAGS:
        raise ValueError(f"may have {MAX_TAGS} tags, each name once")
    return tags


_PRICES: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, Number])


def _prices(value: str) -> tuple[tuple[str, float], ...]:
    try:
        return tuple(sorted(_PRICES.validate_json(value).items()))
    except ValidationError:
        raise ValueError("must be a JSON object of devices and dollars an hour from 0") from None


Secret = Annotated[str, AfterValidator(_secret)]
"""A secret is empty or long enough to resist guessing."""
Switch = Annotated[bool, BeforeValidator(_switch)]
"""`0` or `1`."""
Names = Annotated[frozenset[str] | None, BeforeValidator(_names)]
"""Names between commas; None for no name."""
Tags = Annotated[tuple[tuple[str, str], ...], BeforeValidator(_tags)]
"""`name=value,other=value`, as both S3 and Azure take them; `{tenant}` stands for an id."""
Prices = Annotated[tuple[tuple[str, float], ...], BeforeValidator(_prices)]
"""`{"NVIDIA L4": 0.71, "cpu": 0.02}`: US dollars an hour by the names of devices."""
Folder = Annotated[Path, AfterValidator(Path.resolve)]
"""An absolute path, from one that may be relative to the current folder."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A number that is neither infinite nor NaN."""
BaseUrl = Annotated[str, Schemes(("http", "https")), AfterValidator(lambda url: url.rstrip("/"))]
"""A URL to which paths are appended."""
