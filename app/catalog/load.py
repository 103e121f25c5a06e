"""Load the model registry, `models.toml`, and check every entry."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from app.catalog.entries import (
    COMPILED,
    DTYPES,
    SCHEDULERS,
    Catalog,
    Defaults,
    Limits,
    Model,
    Speed,
)
from app.catalog.revision import LORA_FILE, revision
from app.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

T = TypeVar("T")


def load_catalog(
    file: Path, serve: frozenset[str] | None = None, *, revised: bool = True
) -> Catalog:
    """Read `models.toml`; serve the named entries, or all but those of the `null` pipeline.

    A revision takes every file of a model to be read, gigabytes of some: who only looks whether the
    registry is sound leaves it out, and each model's is empty. Raises `CatalogError` naming the file and
    the entry.
    """
    try:
        table = tomllib.loads(file.read_text())
    except OSError as error:
        raise CatalogError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"{file} is not TOML: {error}") from error
    if unknown := (serve or frozenset()) - table.keys():
        names = ", ".join(sorted(unknown))
        raise CatalogError(f"{file} has no model {names}; it has {', '.join(table)}")
    served = {
        name: _revised(file, model) if revised else model
        for name, model in _models(file, table, serve)
    }
    if not served:
        raise CatalogError(f"{file} has no model to serve")
    return Catalog(served)


def _is_real(entry: Any) -> bool:
    return not (isinstance(entry, dict) and entry.get("pipeline") == "null")


def _models(
    file: Path, table: dict[str, Any], serve: frozenset[str] | None
) -> Iterator[tuple[str, Model]]:
    for name, entry in table.items():
        if name in serve if serve else _is_real(entry):
            yield name, _model(file, name, entry)


def _revised(file: Path, model: Model) -> Model:
    try:
        return replace(model, revision=revision(model))
    except OSError as error:
        where = f"{file}, [{model.name}]"
        raise CatalogError(f"{where}: its files cannot be read: {error}") from error


def _model(file: Path, name: str, entry: Any) -> Model:
    where = f"{file}, [{name}]"
    if not isinstance(entry, dict):
        raise CatalogError(f"{where}: must be a table")
    allowed = {
        "pipeline", "path", "description", "delay_s", "schedulers", "defaults", "limits", "speed",
        "loras", "controlnets",
    }  # fmt: skip
    if unknown := entry.keys() - allowed:
        raise CatalogError(f"{where}: unknown setting {', '.join(sorted(unknown))}")
    pipeline = _value(where, "pipeline", entry, "diffusers")
    if pipeline not in {"diffusers", "null"}:
        raise CatalogError(f"{where}: pipeline must be diffusers or null, not {pipeline!r}")
    path = (file.parent / _value(where, "path", entry, "")).resolve() if "path" in entry else None
    if pipeline == "diffusers" and (path is None or not (path / "model_index.json").is_file()):
        raise CatalogError(f"{where}: path must be a folder in the diffusers format, not {path}")
    model = Model(
        name=name,
        pipeline=pipeline,
        path=path,
        description=_value(where, "description", entry, ""),
        revision="",
        delay_s=_value(where, "delay_s", entry, 0.0),
        schedulers=_schedulers(where, entry),
        defaults=_section(where, "defaults", Defaults, entry),
        limits=_section(where, "limits", Limits, entry),
        speed=_speed(where, entry),
        decoder=_decoder(where, entry, file.parent),
        loras=_folders(where, "loras", entry, file.parent, LORA_FILE),
        controlnets=_folders(where, "controlnets", entry, file.parent, "config.json"),
    )
    _check_defaults(where, model)
    return model


def _folders(
    where: str, name: str, entry: dict[str, Any], base: Path, holds: str
) -> dict[str, Path]:
    """What a model has beside its own weights: names and folders, relative to the file."""
    table: dict[str, Any] = _value(where, name, entry, {})
    found = {}
    for extra, folder in table.items():
        if not isinstance(folder, str) or not (base / folder / holds).is_file():
            raise CatalogError(f"{where}: {name}.{extra} must be a folder with a {holds} in it")
        found[extra] = (base / folder).resolve()
    return found


def _speed(where: str, entry: dict[str, Any]) -> Speed:
    table: dict[str, Any] = dict(_value(where, "speed", entry, {}))
    said = table.get("compile", False)
    if isinstance(said, bool):  # yes, but not how much: what starts sooner
        table["compile"] = "blocks" if said else ""
    elif said not in COMPILED:
        raise CatalogError(
            f'{where}: compile must be "blocks", "whole", true or false, not {said!r}'
        )
    speed = _section(where, "speed", Speed, {"speed": table})
    if speed.dtype not in DTYPES:
        raise CatalogError(f"{where}: the dtype must be one of {', '.join(DTYPES)}")
    return speed


def _decoder(where: str, entry: dict[str, Any], base: Path) -> Path | None:
    """The folder of a small autoencoder, where the entry's `speed` names one."""
    named = _value(where, "decoder", _value(where, "speed", entry, {}), "")
    if not named:
        return None
    if not (base / named / "config.json").is_file():
        raise CatalogError(f"{where}: decoder must be a folder with a config.json in it")
    return (base / named).resolve()


def _section(where: str, name: str, kind: type[T], entry: dict[str, Any]) -> T:
    values: dict[str, Any] = _value(where, name, entry, {})
    plain = {f.name: f.default for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := values.keys() - plain.keys():
        raise CatalogError(f"{where}: unknown {name} {', '.join(sorted(unknown))}")
    return kind(**{n: _value(where, n, values, default) for n, default in plain.items()})


def _value(where: str, name: str, table: dict[str, Any], default: T) -> T:
    """The table's value, of the type of its default; a whole number will do for a float."""
    value = table.get(name, default)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise CatalogError(f"{where}: {name} must be a {type(default).__name__}, not {value!r}")
    if isinstance(value, (int, float)) and not 0 <= value < float("inf"):
        raise CatalogError(f"{where}: {name} must be a number from 0, not {value!r}")
    return value


def _schedulers(where: str, entry: dict[str, Any]) -> tuple[str, ...]:
    chosen = _value(where, "schedulers", entry, list(SCHEDULERS))
    if not chosen or not set(map(str, chosen)) <= set(SCHEDULERS):
        raise CatalogError(f"{where}: schedulers must be some of {', '.join(SCHEDULERS)}")
    return tuple(chosen)


def _check_defaults(where: str, model: Model) -> None:
    """Refuse defaults that the model's own limits would refuse in every request."""
    defaults, limits = model.defaults, model.limits
    for side in ("width", "height"):
        pixels = getattr(defaults, side)
        least, most = getattr(limits, f"min_{side}"), getattr(limits, f"max_{side}")
        if not least <= pixels <= most or pixels % max(1, limits.multiple_of):
            raise CatalogError(
                f"{where}: the default {side} {pixels} is outside of the limits: from {least} to "
                f"{most}, a multiple of {limits.multiple_of}"
            )
    if not 1 <= defaults.num_inference_steps <= limits.max_steps:
        raise CatalogError(f"{where}: the default num_inference_steps must be 1 to max_steps")
    if defaults.scheduler not in model.schedulers:
        raise CatalogError(f"{where}: the default scheduler must be one of its schedulers")
