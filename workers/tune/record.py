"""The winner into `models.toml`, with every comment where it was."""

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
    """The file's text with the model's `speed` set so; keys that say the default are left out."""
    document, plain = tomlkit.parse(text), asdict(Speed())
    wanted = asdict(speed)
    if "speed" not in document[model]:
        changed = {key: value for key, value in wanted.items() if value != plain[key]}
        lines = [f"[{tomlkit.key([model, 'speed']).as_string()}]  # {remark}"]
        lines += [f"{key} = {tomlkit.item(value).as_string()}" for key, value in changed.items()]
        return _after_entry(text, model, lines)
    table = document[model]["speed"]
    for key, value in wanted.items():
        if value != plain[key] or key in table:
            table[key] = value
    for old_name in RENAMED_SPEED:
        table.pop(old_name, None)
    table.comment(remark)
    return tomlkit.dumps(document)


def _after_entry(text: str, model: str, added: list[str]) -> str:
    """Put lines behind the last setting of the model, before the comments of what comes next."""
    lines, last, ours = text.splitlines(), 0, False
    for number, line in enumerate(lines):
        if HEADER.match(line):
            ours = next(iter(tomllib.loads(line))) == model
        if ours and line.strip() and not line.lstrip().startswith("#"):
            last = number
    return "\n".join([*lines[: last + 1], "", *added, *lines[last + 1 :], ""])


def write(file: Path, text: str) -> None:
    """Replace the file whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, suffix=".part") as part:
        part.write(text)
    made = Path(part.name)
    made.chmod(file.stat().st_mode)
    made.replace(file)
