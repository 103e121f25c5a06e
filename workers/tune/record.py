"""Writes the best settings to `models.toml`, and keeps every comment in its place."""

from __future__ import annotations

import re
import tempfile
import tomllib
from dataclasses import asdict
from pathlib import Path

import tomlkit

from app.catalog.entries import Speed
from app.catalog.load import RENAMED_SPEED

HEADER = re.compile(r"\s*\[[^\[]")


def recorded(text: str, model: str, speed: Speed, remark: str) -> str:
    """Return the file's text with the model's new `speed`, without keys of default value."""
    document, defaults = tomlkit.parse(text), asdict(Speed())
    settings = asdict(speed)
    if "speed" not in document[model]:
        changed = {key: value for key, value in settings.items() if value != defaults[key]}
        lines = [f"[{tomlkit.key([model, 'speed']).as_string()}]  # {remark}"]
        lines += [f"{key} = {tomlkit.item(value).as_string()}" for key, value in changed.items()]
        return _after_entry(text, model, lines)
    table = document[model]["speed"]
    for key, value in settings.items():
        if value != defaults[key] or key in table:
            table[key] = value
    for old_name in RENAMED_SPEED:
        table.pop(old_name, None)
    table.comment(remark)
    return tomlkit.dumps(document)


def _after_entry(text: str, model: str, added: list[str]) -> str:
    """Insert lines after the model's last setting, before the comments of the next entry."""
    lines, last, inside = text.splitlines(), 0, False
    for number, line in enumerate(lines):
        if HEADER.match(line):
            inside = next(iter(tomllib.loads(line))) == model
        if inside and line.strip() and not line.lstrip().startswith("#"):
            last = number
    return "\n".join([*lines[: last + 1], "", *added, *lines[last + 1 :], ""])


def write(file: Path, text: str) -> None:
    """Replace the file atomically; its mode stays."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, suffix=".part") as part:
        part.write(text)
    new = Path(part.name)
    new.chmod(file.stat().st_mode)
    new.replace(file)
