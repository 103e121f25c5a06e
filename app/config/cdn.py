"""`RENDERFARM_CDN`: the CDN in front of the store, and the key that signs its URLs.

A JSON object: `kind`, the `url` that stands before an object's key, and what its kind needs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "RENDERFARM_CDN"
NEEDS: dict[str, tuple[str, ...]] = {
    "cloudfront": ("key_id", "key_file"),
    "cloudcdn": ("key_name", "key_file"),
    "frontdoor": (),
}
MAY = {"cloudfront": ("policy",), "cloudcdn": ("policy",), "frontdoor": ()}
POLICIES = {"cloudfront": ("canned", "custom"), "cloudcdn": ("url", "prefix")}


@dataclass(frozen=True, slots=True)
class Cdn:
    """What `RENDERFARM_CDN` says. `policy` is the first of its kind's `POLICIES` unless given.

    With `custom` (CloudFront) and `prefix` (Cloud CDN) one signature opens all pictures of a job.
    """

    kind: str
    url: str
    key_id: str = ""
    key_file: Path | None = None
    policy: str = ""


def read_cdn(text: str) -> Cdn | None:
    """Read the setting; raises `SettingsError` naming the variable and what is wrong with it."""
    if not text:
        return None
    try:
        said = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{VARIABLE} must be a JSON object: {error}") from None
    kind = said.get("kind") if isinstance(said, dict) else None
    if kind not in NEEDS:
        raise SettingsError(f"{VARIABLE}: kind must be one of {', '.join(NEEDS)}")
    needed = ("url", *NEEDS[kind])
    if unknown := said.keys() - {"kind", *needed, *MAY[kind]}:
        raise SettingsError(f"{VARIABLE}: {kind} has no {', '.join(sorted(unknown))}")
    for name in needed:
        if not isinstance(said.get(name), str) or not said[name]:
            raise SettingsError(f"{VARIABLE}: {kind} needs {name}")
    return _checked(kind, said)


def _checked(kind: str, said: Mapping[str, Any]) -> Cdn:
    if urlsplit(said["url"]).scheme != "https":
        raise SettingsError(f"{VARIABLE}: url must begin with https://")
    policies = POLICIES.get(kind, ("",))
    policy = said.get("policy", policies[0])
    if policy not in policies:
        raise SettingsError(f"{VARIABLE}: policy must be {' or '.join(policies)}")
    file = said.get("key_file")
    return Cdn(
        kind=kind,
        url=said["url"].rstrip("/"),
        key_id=said.get("key_id") or said.get("key_name") or "",
        key_file=Path(file) if file else None,
        policy=policy,
    )
