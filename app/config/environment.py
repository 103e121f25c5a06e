"""Environment variables as a source of pydantic-settings, and the embedded farm as a fallback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_settings import EnvSettingsSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_settings import BaseSettings

PREFIX = "RENDERFARM_"
_PUBLISHED = {"DATABASE_URL": "database_url", "BROKER_URL": "broker_url", "PUBLIC_URL": "url"}
"""The fields of `farm.json` that stand for variables."""


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def source(settings: type[BaseSettings], environ: Mapping[str, str]) -> EnvSettingsSource:
    """Make a source that reads the given mapping instead of `os.environ`."""
    variables = EnvSettingsSource(settings)
    variables.env_vars = dict(environ)
    return variables


def farm_directory(environ: Mapping[str, str]) -> Path:
    """The folder of the embedded farm, absolute."""
    return Path(environ.get(variable("DIR")) or "var").resolve()


def running_farm(directory: Path) -> dict[str, str]:
    """The variables that the embedded farm in `directory` publishes; empty if none runs."""
    try:
        farm = json.loads((directory / "farm.json").read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(farm, dict):
        return {}
    return {variable(name): str(farm[key]) for name, key in _PUBLISHED.items() if farm.get(key)}
