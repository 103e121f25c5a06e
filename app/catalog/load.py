"""Load the model registry, `models.toml`, and check every entry that is served."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from app.catalog.entries import Catalog, Model
from app.catalog.form import EntryForm, known_keys
from app.catalog.revision import revision
from app.config import renamed
from app.config.validation import dotted, problems
from app.errors import CatalogError

if TYPE_CHECKING:
    from pathlib import Path

RENAMED_SPEED = {"prompt_memo_mb": "prompt_cache_mb"}
"""Keys of `[NAME.speed]` by their old names, which are still read."""


def load_catalog(
    file: Path, serve: frozenset[str] | None = None, *, revised: bool = True
) -> Catalog:
    """Read `models.toml`; serve the named entries, or all but those of the `null` pipeline.

    Revisions are hashes over every file of a model, which may be gigabytes. A caller that only
    checks the registry passes `revised=False`, and each revision is empty. Raises `CatalogError`
    with a line for each problem of the served entries, which names the file and the entry.
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
        name: entry
        for name, entry in table.items()
        if (name in serve if serve else _is_real(entry))
    }
    if not served:
        raise CatalogError(f"{file} has no model to serve")
    models = _models(file, served)
    return Catalog(
        {name: _revised(file, model) if revised else model for name, model in models.items()}
    )


def _is_real(entry: Any) -> bool:
    return not (isinstance(entry, dict) and entry.get("pipeline") == "null")


def _models(file: Path, entries: dict[str, Any]) -> dict[str, Model]:
    """Check all entries, so that one error lists every problem."""
    models: dict[str, Model] = {}
    used: dict[str, str] = {}
    lines = []
    for name, entry in entries.items():
        current, renames, conflicts = _current(entry)
        used |= renames
        wrong = [f"{key} {text}" for key, text in conflicts.items()]
        try:
            form = EntryForm.model_validate(current, context=file.parent)
            models[name] = form.model(name, file.parent)
        except ValidationError as error:
            wrong += [
                f"{dotted(location)} {text}".lstrip()
                for location, text in problems(error, known_keys)
            ]
        lines += [f"{file}, [{name}]: {text}" for text in wrong]
    if lines:
        raise CatalogError("\n".join(lines))
    renamed.warn(used)
    return models


def _current(entry: Any) -> tuple[Any, dict[str, str], dict[str, str]]:
    """Give the entry with current keys in its `speed`, the renames in use, and the conflicts."""
    speed = entry.get("speed") if isinstance(entry, dict) else None
    if not isinstance(speed, dict):
        return entry, {}, {}
    current, used, conflicts = renamed.current_names(speed, RENAMED_SPEED)
    return (
        entry | {"speed": current},
        {f"speed.{old}": f"speed.{new}" for old, new in used.items()},
        {f"speed.{old}": text for old, text in conflicts.items()},
    )


def _revised(file: Path, model: Model) -> Model:
    try:
        return replace(model, revision=revision(model))
    except OSError as error:
        where = f"{file}, [{model.name}]"
        raise CatalogError(f"{where}: its files cannot be read: {error}") from error
