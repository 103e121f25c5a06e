"""Settings: read once from the environment into one frozen object.

Every variable has the prefix `RENDERFARM_`. A bad value stops the start and names the variable.
What is not set comes from an embedded farm that runs under `RENDERFARM_DIR` (`./var`), if one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.config.cdn import Cdn, read_cdn
from app.config.environment import Reader
from app.config.repository import REPOSITORY
from app.config.sources import Source, read_sources

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY_S = 86_400.0


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
        read = Reader(environ)
        return cls(
            models_file=models_file(environ),
            serve=read.names("SERVE"),
            **_backing(read),
            **_pictures(read),
            **_doors(read),
            **_work(read),
            **_keeping(read),
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


def _backing(read: Reader) -> dict[str, Any]:
    """Where the farm keeps what it knows."""
    return {
        "database_url": read.url("DATABASE_URL", {"postgresql", "postgresql+psycopg"}),
        "broker_url": read.url("BROKER_URL", {"redis", "rediss"}),
        "storage_url": read.url(
            "STORAGE_URL",
            {"file", "s3", "gs", "az"},
            (read.directory / "objects").as_uri(),
        ),
        "storage_class": read.text("STORAGE_CLASS", ""),
        "storage_tags": read.tags("STORAGE_TAGS"),
        "storage_verify": read.choice("STORAGE_VERIFY", ("read", "size")),
    }


def _pictures(read: Reader) -> dict[str, Any]:
    """What is done with pictures, and how they are reached."""
    return {
        "cdn": read_cdn(read.text("CDN", "")),
        "c2pa": read.both("C2PA_CERT", "C2PA_KEY"),
        "moderation": read.text("MODERATION", ""),
        "url_expiry_s": read.whole("URL_EXPIRY_S", 86_400, 1, 7 * 86_400),
    }


def _doors(read: Reader) -> dict[str, Any]:
    """Where others come in, and where webhooks may go out."""
    return {
        "public_url": read.url("PUBLIC_URL", {"http", "https"}, "http://127.0.0.1:8000").rstrip(
            "/"
        ),
        "secret": read.secret("SECRET"),
        "host": read.text("HOST", "127.0.0.1"),
        "port": read.whole("PORT", 8000, 0, 65535),
        "webhook_allow_private": read.flag("WEBHOOK_ALLOW_PRIVATE"),
        "flower_port": read.whole("FLOWER_PORT", 5555, 0, 65535),
        "flower_user": read.text("FLOWER_USER", "farm"),
        "flower_password": read.text("FLOWER_PASSWORD", ""),
        "sources": read_sources(read.text("SOURCES", "")),
    }


def _work(read: Reader) -> dict[str, Any]:
    """How workers work, and when the farm gives up on one or on a job."""
    lease_s = read.number("LEASE_S", 30.0, 1.0)
    return {
        "slots": read.whole("SLOTS", 16, 1, 1024),
        "max_rows": read.whole("MAX_ROWS", 16, 1, 1024),
        # 0: all that is free on an accelerator, and no bound on a CPU.
        "device_memory_mb": read.whole("DEVICE_MEMORY_MB", 0, 0, 2**24),
        "lease_s": lease_s,
        # One renewal may fail and the lease still holds.
        "renew_s": read.number("RENEW_S", min(5.0, lease_s / 3), 0.1, lease_s / 2),
        "watchdog_s": read.number("WATCHDOG_S", 60.0, 1.0),
        "hint_again_s": read.number("HINT_AGAIN_S", 5.0, 0.1),
        "max_failures": read.whole("MAX_FAILURES", 3, 1, 100),
        # Given up only after a crash in which the job was alone, which the first never is.
        "max_crashes": read.whole("MAX_CRASHES", 3, 2, 100),
    }


def _keeping(read: Reader) -> dict[str, Any]:
    """For how long things are kept, and what work costs."""
    return {
        "sweep_s": read.number("SWEEP_S", 21_600.0, 1.0),
        "keep_uploads_s": read.number("KEEP_UPLOADS_S", DAY_S, 3600.0),
        "usd_per_gpu_hour": read.number("USD_PER_GPU_HOUR", 0.0, 0.0),
        "prices": read.prices("PRICES"),
    }
