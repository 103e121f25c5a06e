"""Types of settings: how the text of an environment variable becomes a value, and its limits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import core_schema

from app.config.validation import Number, scheme

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydantic import GetCoreSchemaHandler

MIN_SECRET_CHARS = 16
MAX_TAGS = 10
TAG_KEY = re.compile(r"[A-Za-z0-9 +\-./:=_]{1,128}")
TAG_VALUE = re.compile(r"[A-Za-z0-9 +\-./:=_]{0,220}")  # and the 36 characters of a tenant's id

ROLES = ("api", "intake", "dispatcher", "courier", "worker", "flower", "commands")
"""The processes that read settings. `commands` are those that reach the database, such as `audit`."""


def setting(
    default: Any = ...,
    *,
    about: str,
    by: str,
    unit: str = "",
    takes: str = "",
    secret: bool = False,
    **limits: Any,
) -> Any:
    """Describe a setting: its meaning, the roles that read it, its unit and the values it takes.

    `by` has names of `ROLES` between spaces. A `secret` is in no message and in no `repr`.
    """
    roles = ROLES if by == "all" else tuple(by.split())
    if unknown := set(roles) - set(ROLES):
        raise ValueError(f"there is no role {unknown}")
    more: dict[str, Any] = {"unit": unit, "roles": list(roles), "takes": takes, "secret": secret}
    if "default_factory" not in limits:
        limits["default"] = default
    return Field(description=about, repr=not secret, json_schema_extra=more, **limits)


@dataclass(frozen=True, slots=True)
class Schemes:
    """A URL with one of the schemes, or none where a URL is not needed."""

    names: Collection[str]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Check after the type of the value."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def check(self, url: str) -> str:
        """The URL itself; the message does not repeat it: it may carry a password."""
        if url and scheme(url) not in self.names:
            wanted = ", ".join(f"{name}://" for name in self.names)
            raise ValueError(f"must start with one of {wanted}")
        return url


def _secret(value: str) -> str:
    if value and len(value) < MIN_SECRET_CHARS:
        raise ValueError(f"must have at least {MIN_SECRET_CHARS} characters")
    return value


def _flag(value: str | bool) -> bool:  # noqa: FBT001 - a validator takes its value by position
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
"""Empty, or long enough to resist guessing."""
Switch = Annotated[bool, BeforeValidator(_flag)]
"""0 or 1."""
Names = Annotated[frozenset[str] | None, BeforeValidator(_names)]
"""Names between commas; None if there are none."""
Tags = Annotated[tuple[tuple[str, str], ...], BeforeValidator(_tags)]
"""`name=value,other=value`, as both S3 and Azure take them; `{tenant}` stands for an id."""
Prices = Annotated[tuple[tuple[str, float], ...], BeforeValidator(_prices)]
"""`{"NVIDIA L4": 0.71, "cpu": 0.02}`: US dollars an hour by the names of devices."""
Folder = Annotated[Path, AfterValidator(Path.resolve)]
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
BaseUrl = Annotated[str, Schemes(("http", "https")), AfterValidator(lambda url: url.rstrip("/"))]
"""A URL to which paths are appended."""
