"""`RENDERFARM_CDN`: the CDN in front of the object store, and the key that signs its URLs.

The setting is a JSON object with the `kind` of CDN, the `url` that precedes an object's key, and
the keys of that kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from app.config.types import Text, decoded, scheme
from app.config.validation import Location, dotted, problems
from app.errors import SettingsError

VARIABLE = "RENDERFARM_CDN"


@dataclass(frozen=True, slots=True)
class Cdn:
    """The CDN of `RENDERFARM_CDN`. CloudFront's `policy` is `canned` by default, Cloud CDN's `url`.

    With `custom` (CloudFront) and `prefix` (Cloud CDN) one signature is valid for all images
    of a job.
    """

    kind: str
    url: str
    key_id: str = ""
    key_file: Path | None = None
    policy: str = ""


def _https(url: str) -> str:
    if scheme(url) != "https":
        raise ValueError("must begin with https://")
    return url.rstrip("/")


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[Text, AfterValidator(_https)]


class _CloudFront(_Form):
    kind: Literal["cloudfront"]
    key_id: Text
    key_file: Text
    policy: Literal["canned", "custom"] = "canned"

    def cdn(self) -> Cdn:
        return Cdn(self.kind, self.url, self.key_id, Path(self.key_file), self.policy)


class _CloudCdn(_Form):
    kind: Literal["cloudcdn"]
    key_name: Text
    key_file: Text
    policy: Literal["url", "prefix"] = "url"

    def cdn(self) -> Cdn:
        return Cdn(self.kind, self.url, self.key_name, Path(self.key_file), self.policy)


class _FrontDoor(_Form):
    kind: Literal["frontdoor"]

    def cdn(self) -> Cdn:
        return Cdn(self.kind, self.url)


_Kind: TypeAlias = _CloudFront | _CloudCdn | _FrontDoor
KINDS: dict[str, type[BaseModel]] = {
    "cloudfront": _CloudFront,
    "cloudcdn": _CloudCdn,
    "frontdoor": _FrontDoor,
}
_FORM: TypeAdapter[_Kind] = TypeAdapter(Annotated[_Kind, Field(discriminator="kind")])


def _parsed(text: str) -> Cdn | None:
    if not text:
        return None
    form = decoded(text)
    if not isinstance(form, dict) or str(form.get("kind")) not in KINDS:
        raise ValueError(f"must be a JSON object whose kind is one of {', '.join(KINDS)}")
    return _FORM.validate_python(form).cdn()


CdnSetting = Annotated[Cdn | None, BeforeValidator(_parsed)]
"""The type of the setting: a text of JSON becomes a CDN."""


def keys(location: Location) -> tuple[str, ...]:
    """The known keys of the CDN whose kind is at the end of `location`."""
    return tuple(KINDS[str(location[-1])].model_fields)


def read_cdn(text: str) -> Cdn | None:
    """Read the setting. `SettingsError` names the variable and each wrong key, but no value."""
    reader: TypeAdapter[Cdn | None] = TypeAdapter(CdnSetting)
    try:
        return reader.validate_python(text)
    except ValidationError as error:
        found = problems(error, keys, shown=lambda _: False, tags=KINDS)
        lines = [f"{dotted((VARIABLE, *place))} {text}" for place, text in found]
        raise SettingsError("\n".join(lines)) from None
