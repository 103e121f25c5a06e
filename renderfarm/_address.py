"""Find the farm: the arguments, then the environment, then a farm that runs in this folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from renderfarm.errors import FarmNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Address:
    """A farm's URL and its key."""

    url: str
    api_key: str

    def __repr__(self) -> str:
        """Leave the key out: representations end up in logs."""
        return f"Address({self.url!r})"


def find(
    url: str | None,
    api_key: str | None,
    environ: Mapping[str, str],
    *,
    given: bool = False,
) -> Address:
    """Find the farm. Raises FarmNotFound, whose message says what to set.

    The order is: the arguments; RENDERFARM_URL and RENDERFARM_API_KEY; the file `farm.json` that
    `renderfarm up` writes in RENDERFARM_DIR, by default `./var`. With a `given` transport the farm
    is at its other end, so a test needs neither URL nor key.
    """
    url = url or environ.get("RENDERFARM_URL")
    api_key = api_key or environ.get("RENDERFARM_API_KEY")
    if given:
        url, api_key = url or "http://renderfarm.test", api_key or "rf_test"
    if not url:
        local = _local(Path(environ.get("RENDERFARM_DIR") or "var") / "farm.json")
        url, api_key = local.url, api_key or local.api_key
    if not url.startswith(("http://", "https://")):
        raise FarmNotFound(f"the farm's URL must start with http:// or https://, not {url!r}")
    if not api_key:
        raise FarmNotFound(f"no key for {url}: set RENDERFARM_API_KEY, or pass api_key=")
    return Address(url.rstrip("/"), api_key)


def _local(path: Path) -> Address:
    try:
        data = json.loads(path.read_bytes())
        return Address(str(data["url"]), str(data["api_key"]))
    except FileNotFoundError:
        raise FarmNotFound(
            "no farm: set RENDERFARM_URL and RENDERFARM_API_KEY, or start one here with "
            f"`renderfarm up` (there is no {path})",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FarmNotFound(f"no farm: {path} cannot be read ({error!r})") from error
