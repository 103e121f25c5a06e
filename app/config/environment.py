"""Environment variables as sources of pydantic-settings, with the embedded farm's as a fallback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_settings import EnvSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_settings import BaseSettings

PREFIX = "RENDERFARM_"


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


class Variables(EnvSettingsSource):
    """Reads variables from a given mapping instead of `os.environ`."""

    def __init__(self, settings: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(self._environ, self.case_sensitive, self.env_ignore_empty)


def farm_directory(environ: Mapping[str, str]) -> Path:
    """The folder of the embedded farm, absolute."""
    return Path(environ.get(variable("DIR")) or "var").resolve()


def running_farm(directory: Path) -> dict[str, str]:
    """The variables that the embedded farm in `directory` publishes; empty if none runs there."""
    try:
        farm = json.loads((directory / "farm.json").read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(farm, dict):
        return {}
    fields = {
        "DATABASE_URL": "database_url",
        "BROKER_URL": "broker_url",
        "PUBLIC_URL": "url",
    }
    return {variable(name): str(farm[field]) for name, field in fields.items() if farm.get(field)}
