"""The environment's variables, each checked as it is read and named where it is wrong."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

MIN_SECRET_CHARS = 16
MAX_TAGS = 10
TAG_KEY = re.compile(r"[A-Za-z0-9 +\-./:=_]{1,128}")
TAG_VALUE = re.compile(r"[A-Za-z0-9 +\-./:=_]{0,220}")  # and the 36 characters of a tenant's id


class Reader:
    """Takes one variable at a time, by its name without the prefix; raises `SettingsError`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.directory = Path(environ.get("RENDERFARM_DIR") or "var").resolve()
        self._running = _running_farm(self.directory)

    def text(self, name: str, default: str | None = None) -> str:
        """As it is; without a default it must be set, here or by the embedded farm."""
        value = self._environ.get(f"RENDERFARM_{name}") or self._running.get(name) or default
        if value is None:
            raise SettingsError(
                f"RENDERFARM_{name} is not set, and no embedded farm runs in {self.directory} "
                "(start one with `renderfarm up`)"
            )
        return value

    def url(self, name: str, schemes: set[str], default: str | None = None) -> str:
        """A URL with one of the schemes."""
        value = self.text(name, default)
        if _scheme(value) not in schemes:
            wanted = ", ".join(f"{scheme}://" for scheme in sorted(schemes))
            raise SettingsError(f"RENDERFARM_{name} must start with one of {wanted}")
        return value

    def secret(self, name: str) -> str:
        """Empty, or long enough to be one."""
        value = self.text(name, "")
        if value and len(value) < MIN_SECRET_CHARS:
            raise SettingsError(
                f"RENDERFARM_{name} must have at least {MIN_SECRET_CHARS} characters"
            )
        return value

    def names(self, name: str) -> frozenset[str] | None:
        """Names between commas; none if there are none."""
        value = self.text(name, "")
        return frozenset(part.strip() for part in value.split(",") if part.strip()) or None

    def tags(self, name: str) -> tuple[tuple[str, str], ...]:
        """`name=value,other=value`, as both S3 and Azure take them; `{tenant}` stands for an id."""
        parts = [part.partition("=") for part in self.text(name, "").split(",") if part.strip()]
        if any(not (key.strip() and equals and value.strip()) for key, equals, value in parts):
            raise SettingsError(f"RENDERFARM_{name} must be like name=value,other=value")
        made = tuple((key.strip(), value.strip()) for key, _, value in parts)
        for key, value in made:
            if not (TAG_KEY.fullmatch(key) and TAG_VALUE.fullmatch(value.replace("{tenant}", ""))):
                raise SettingsError(
                    f"RENDERFARM_{name}: {key}={value} may have letters, digits, spaces and "
                    "+ - . / : = _, up to 128 of them in a name and 220 in a value"
                )
        if len(dict(made)) < len(made) or len(made) > MAX_TAGS:
            raise SettingsError(f"RENDERFARM_{name} may have {MAX_TAGS} tags, each name once")
        return made

    def both(self, one: str, other: str) -> tuple[Path, Path] | None:
        """Two files that go together, or none."""
        values = self.text(one, ""), self.text(other, "")
        if not any(values):
            return None
        if not all(values):
            raise SettingsError(f"RENDERFARM_{one} and RENDERFARM_{other} go together")
        return Path(values[0]), Path(values[1])

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """One of the words; the first is the default."""
        value = self.text(name, allowed[0])
        if value not in allowed:
            raise SettingsError(f"RENDERFARM_{name} must be {' or '.join(allowed)}, not {value!r}")
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number in the bounds."""
        value = self.text(name, str(default))
        try:
            number = int(value)
        except ValueError:
            raise SettingsError(
                f"RENDERFARM_{name} must be a whole number, not {value!r}"
            ) from None
        if not least <= number <= most:
            raise SettingsError(f"RENDERFARM_{name} must be from {least} to {most}, not {number}")
        return number

    def number(
        self, name: str, default: float, least: float, most: float = sys.float_info.max
    ) -> float:
        """A finite number in the bounds."""
        value = self.text(name, str(default))
        try:
            number = float(value)
        except ValueError:
            raise SettingsError(f"RENDERFARM_{name} must be a number, not {value!r}") from None
        if not least <= number <= most:
            upwards = "" if most == sys.float_info.max else f" and at most {most}"
            raise SettingsError(f"RENDERFARM_{name} must be at least {least}{upwards}, not {value}")
        return number

    def prices(self, name: str) -> tuple[tuple[str, float], ...]:
        """`{"NVIDIA L4": 0.71, "cpu": 0.02}`: US dollars an hour by the names of devices."""
        wrong = f"RENDERFARM_{name} must be a JSON object of devices and dollars an hour from 0"
        try:
            table = json.loads(self.text(name, "{}"))
        except ValueError:
            raise SettingsError(wrong) from None
        if not isinstance(table, dict):
            raise SettingsError(wrong)
        for price in table.values():
            if type(price) not in {int, float} or not 0 <= price < float("inf"):
                raise SettingsError(wrong)
        return tuple(sorted((device, float(price)) for device, price in table.items()))

    def flag(self, name: str) -> bool:
        """0, which is the default, or 1."""
        value = self.text(name, "0")
        if value not in {"0", "1"}:
            raise SettingsError(f"RENDERFARM_{name} must be 0 or 1, not {value!r}")
        return value == "1"


def _running_farm(directory: Path) -> dict[str, str]:
    """What the embedded farm in `directory` says of itself, by the names of the variables."""
    try:
        farm = json.loads((directory / "farm.json").read_text())
    except (OSError, ValueError):
        return {}
    return {
        name: str(farm[field])
        for name, field in (
            ("DATABASE_URL", "database_url"),
            ("BROKER_URL", "broker_url"),
            ("PUBLIC_URL", "url"),
        )
        if isinstance(farm, dict) and field in farm
    }


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:  # such as an unclosed bracket in a password
        return ""
