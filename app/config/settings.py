"""Settings (configuration): read once from the environment by pydantic-settings, then frozen.

Every variable has the prefix `RENDERFARM_`. A process with a wrong value does not start; the
message names every wrong variable. Servers that are not set are those of the embedded farm that
runs under `RENDERFARM_DIR` (`./var`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from pydantic import ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource

from app.config import renamed
from app.config.cdn import KINDS
from app.config.cdn import keys as cdn_keys
from app.config.environment import farm_directory, running_farm, source, variable
from app.config.sources import KEYS as SOURCE_KEYS
from app.config.table import MODELS_FILE, SettingsTable
from app.config.validation import Location, dotted, problems
from app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic_settings import PydanticBaseSettingsSource

Server: TypeAlias = Literal["database_url", "broker_url"]
SERVERS: tuple[Server, ...] = ("database_url", "broker_url")
"""The settings without a default. A process needs only those that it uses."""
NOT_SET = "is not set, and no embedded farm runs in {} (start one with `renderfarm up`)"


class Settings(SettingsTable):
    """One farm's settings. Times in seconds, sizes in bytes."""

    def __init__(self, environ: Mapping[str, str], needs: tuple[Server, ...] = SERVERS) -> None:
        BaseSettings.__init__(self, environ=environ, needs=needs)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment first, then the running farm, then blanks for servers not needed."""
        given = cast("InitSettingsSource", init_settings).init_kwargs
        environ, needs = given["environ"], given["needs"]
        blank = {variable(name): "" for name in SERVERS if name not in needs}
        return (
            source(settings_cls, environ),
            InitSettingsSource(settings_cls, running_farm(farm_directory(environ))),
            InitSettingsSource(settings_cls, blank),
        )

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], needs: tuple[Server, ...] = SERVERS
    ) -> Settings:
        """Read the settings; raises `SettingsError` with a line for each wrong variable.

        Of the two servers only those in `needs` must be set; the URL of the other may be empty.
        """
        filled = {name: value for name, value in environ.items() if value}
        current, used, conflicts = renamed.current_names(filled, renamed.VARIABLES)
        lines = [f"{old} {text}" for old, text in conflicts.items()]
        try:
            settings = cls(current, needs)
        except ValidationError as error:  # not the cause of ours: its text repeats secrets
            lines += _lines(error, farm_directory(current))
        if lines:
            raise SettingsError("\n".join(lines))
        renamed.warn(used)
        return settings

    @field_validator("renew_s")
    @classmethod
    def _renewed_in_time(cls, renew_s: float, info: ValidationInfo) -> float:
        """One renewal may fail, and the lease is still valid."""
        lease_s = info.data.get("lease_s", float("inf"))
        if renew_s > lease_s / 2:
            raise ValueError(
                f"must be at most {lease_s / 2:g}, half of {variable('LEASE_S')}, not {renew_s:g}"
            )
        return renew_s

    @field_validator("c2pa_key")
    @classmethod
    def _paired(cls, c2pa_key: Path | None, info: ValidationInfo) -> Path | None:
        if (c2pa_key is None) != (info.data.get("c2pa_cert") is None):
            raise ValueError(f"must be set together with {variable('C2PA_CERT')}, or not at all")
        return c2pa_key

    @property
    def c2pa(self) -> tuple[Path, Path] | None:
        """The files of the certificate and of its key; None without content credentials."""
        return (self.c2pa_cert, self.c2pa_key) if self.c2pa_cert and self.c2pa_key else None

    def usd_per_hour(self, device: str) -> float:
        """The price of an hour of a worker on that device, in US dollars.

        Of the names in `prices` that begin the device's name, the longest counts. Without one the
        price is `usd_per_gpu_hour`.
        """
        matches = [(len(name), usd) for name, usd in self.prices if device.startswith(name)]
        return max(matches)[1] if matches else self.usd_per_gpu_hour


def servers_of(role: str) -> tuple[Server, ...]:
    """The servers whose URLs a role reads, for `Settings.from_environment`."""
    roles = {name: field.json_schema_extra for name, field in Settings.model_fields.items()}
    return tuple(name for name in SERVERS if role in cast("Any", roles[name])["roles"])


def models_file(environ: Mapping[str, str]) -> Path:
    """The path of the registry of models; it is known without any other setting."""
    return Path(environ.get(variable("MODELS")) or MODELS_FILE)


def _lines(error: ValidationError, directory: Path) -> list[str]:
    """A line for each problem, which begins with the variable."""
    fields = Settings.model_fields.items()
    aliases = {name: cast("str", field.validation_alias) for name, field in fields}
    secret = {
        aliases[name] for name, field in fields if cast("Any", field.json_schema_extra)["secret"]
    }

    def known(location: Location) -> Collection[str]:
        return SOURCE_KEYS if location[0] == aliases["sources"] else cdn_keys(location)

    lines = []
    for place, text in problems(error, known, shown=lambda at: at[0] not in secret, tags=KINDS):
        # Pydantic names the field, not its alias, where it checks a default.
        subject = dotted((aliases.get(str(place[0]), place[0]), *place[1:]))
        unset = len(place) == 1 and text == "is missing"
        lines.append(f"{subject} {NOT_SET.format(directory) if unset else text}")
    return lines
