"""Secrets: passwords and keys that a farm creates once, in a file for its owner only."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Mapping


def load_or_create(path: Path, name: str, *, prefix: str = "") -> str:
    """Return the secret `name` from the file `path`; create it if it is missing."""
    stored = _read(path)
    if name not in stored:
        stored[name] = prefix + secrets.token_urlsafe(32)
        private_json(path, stored)
    return stored[name]


def private_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace `path` with `content` as JSON, readable only by its owner."""
    private_file(path, json.dumps(content, indent=2) + "\n")


def private_file(path: Path, text: str) -> None:
    """Replace `path` with `text`, mode 0600.

    A reader sees the old or the new file, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, str]:
    """Return the file's secrets; none without a file. A damaged file is never overwritten."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        content = json.loads(text)
    except ValueError as error:
        raise LocalError(
            f"{path} is damaged: {error}; restore it, or remove the farm's directory"
        ) from error
    if not isinstance(content, dict):
        raise LocalError(f"{path} is damaged: it does not hold a JSON object")
    return content
