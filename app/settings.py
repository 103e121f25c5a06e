"""Settings: read once from the environment into one frozen object.

Every variable has the prefix `RENDERFARM_`. A bad value stops the start and names the variable.
What is not set comes from an embedded farm that runs under `RENDERFARM_DIR` (`./var`), if one does.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.errors import SettingsError
from app.results.cdn import Cdn, read_cdn
from app.sources import Source, read_sources

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).resolve().parent.parent
MIN_SECRET_CHARS = 16
DAY_S = 86_400.0
MAX_TAGS = 10
TAG_KEY = re.compile(r"[A-Za-z0-9 +\-./:=_]{1,128}")
TAG_VALUE = re.compile(r"[A-Za-z0-9 +\-./:=_]{0,220}")  # and the 36 characters of a tenant's id


@dataclass(frozen=True, slots=True)
class Settings:
    """One farm's settings. Times in seconds, sizes in bytes."""

    database_url: str
    broker_url: str
    storage_url: str
    storage_class: str
    storage_tags: tuple[tuple[str, str], ...]
    storage_verify: str
    cdn: Cdn | None
    c2pa: tuple[Path, Path] | None
    moderation: str
    public_url: str
    secret: str
    models_file: Path
    serve: frozenset[str] | None
    host: str
    port: int
    slots: int
    max_rows: int
    device_memory_mb: int
    lease_s: float
    renew_s: float
    watchdog_s: float
    hint_again_s: float
    max_failures: int
    max_crashes: int
    url_expiry_s: int
    sweep_s: float
    keep_uploads_s: float
    usd_per_gpu_hour: float
    prices: tuple[tuple[str, float], ...]
    webhook_allow_private: bool
    flower_port: int
    flower_user: str
    flower_password: str
    sources: tuple[Source, ...]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings; raises `SettingsError` naming the first bad variable."""
        read = _Reader(environ)
        lease_s = read.number("LEASE_S", 30.0, 1.0)
        return cls(
            database_url=read.url("DATABASE_URL", {"postgresql", "postgresql+psycopg"}),
            broker_url=read.url("BROKER_URL", {"redis", "rediss"}),
            storage_url=read.url(
                "STORAGE_URL",
                {"file", "s3", "gs", "az"},
                (read.directory / "objects").as_uri(),
            ),
            storage_class=read.text("STORAGE_CLASS", ""),
            storage_tags=read.tags("STORAGE_TAGS"),
            storage_verify=read.choice("STORAGE_VERIFY", ("read", "size")),
            cdn=read_cdn(read.text("CDN", "")),
            c2pa=read.both("C2PA_CERT", "C2PA_KEY"),
            moderation=read.text("MODERATION", ""),
            public_url=read.url("PUBLIC_URL", {"http", "https"}, "http://127.0.0.1:8000").rstrip(
                "/"
            ),
            secret=read.secret("SECRET"),
            models_file=models_file(environ),
            serve=read.names("SERVE"),
            host=read.text("HOST", "127.0.0.1"),
            port=read.whole("PORT", 8000, 0, 65535),
            slots=read.whole("SLOTS", 16, 1, 1024),
            max_rows=read.whole("MAX_ROWS", 16, 1, 1024),
            # 0: all that is free on an accelerator, and no bound on a CPU.
            device_memory_mb=read.whole("DEVICE_MEMORY_MB", 0, 0, 2**24),
            lease_s=lease_s,
            # One renewal may fail and the lease still holds.
            renew_s=read.number("RENEW_S", min(5.0, lease_s / 3), 0.1, lease_s / 2),
            watchdog_s=read.number("WATCHDOG_S", 60.0, 1.0),
            hint_again_s=read.number("HINT_AGAIN_S", 5.0, 0.1),
            max_failures=read.whole("MAX_FAILURES", 3, 1, 100),
            # Given up only after a crash in which the job was alone, which the first never is.
            max_crashes=read.whole("MAX_CRASHES", 3, 2, 100),
            url_expiry_s=read.whole("URL_EXPIRY_S", 86_400, 1, 7 * 86_400),
            sweep_s=read.number("SWEEP_S", 21_600.0, 1.0),
            keep_uploads_s=read.number("KEEP_UPLOADS_S", DAY_S, 3600.0),
            usd_per_gpu_hour=read.number("USD_PER_GPU_HOUR", 0.0, 0.0),
            prices=read.prices("PRICES"),
            webhook_allow_private=read.flag("WEBHOOK_ALLOW_PRIVATE"),
            flower_port=read.whole("FLOWER_PORT", 5555, 0, 65535),
            flower_user=read.text("FLOWER_USER", "farm"),
            flower_password=read.text("FLOWER_PASSWORD", ""),
            sources=read_sources(read.text("SOURCES", "")),
        )

    def usd_per_hour(self, device: str) -> float:
        """What an hour of a worker on that device costs.

        The price of the longest name that its device's name begins with, or `usd_per_gpu_hour`.
        """
        fitting = [(len(name), usd) for name, usd in self.prices if device.startswith(name)]
        return max(fitting)[1] if fitting else self.usd_per_gpu_hour


def models_file(environ: Mapping[str, str]) -> Path:
    """The registry of models, which has a place whether or not a farm runs."""
    return Path(environ.get("RENDERFARM_MODELS") or REPOSITORY / "models" / "models.toml")


class _Reader:
    """Takes one variable at a time, checks it, and names it where it is wrong."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.directory = Path(environ.get("RENDERFARM_DIR") or "var").resolve()
        self._running = _running_farm(self.directory)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environ.get(f"RENDERFARM_{name}") or self._running.get(name) or default
        if value is None:
            raise SettingsError(
                f"RENDERFARM_{name} is not set, and no embedded farm runs in {self.directory} "
                "(start one with `renderfarm up`)"
            )
        return value

    def url(self, name: str, schemes: set[str], default: str | None = None) -> str:
        value = self.text(name, default)
        if _scheme(value) not in schemes:
            wanted = ", ".join(f"{scheme}://" for scheme in sorted(schemes))
            raise SettingsError(f"RENDERFARM_{name} must start with one of {wanted}")
        return value

    def secret(self, name: str) -> str:
        value = self.text(name, "")
        if value and len(value) < MIN_SECRET_CHARS:
            raise SettingsError(
                f"RENDERFARM_{name} must have at least {MIN_SECRET_CHARS} characters"
            )
        return value

    def names(self, name: str) -> frozenset[str] | None:
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
        values = self.text(one, ""), self.text(other, "")
        if not any(values):
            return None
        if not all(values):
            raise SettingsError(f"RENDERFARM_{one} and RENDERFARM_{other} go together")
        return Path(values[0]), Path(values[1])

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, allowed[0])
        if value not in allowed:
            raise SettingsError(f"RENDERFARM_{name} must be {' or '.join(allowed)}, not {value!r}")
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
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
