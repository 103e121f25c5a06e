"""One JSON file of figures that several programs extend, and their turns on the device."""

from __future__ import annotations

import contextlib
import fcntl
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def turn(file: Path | None) -> Iterator[None]:
    """Hold the device exclusively, among the programs with the same lock file."""
    if file is None:
        yield
        return
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def begin(file: Path, device: str) -> None:
    """Move figures of another device away: to a file with its name."""
    if not file.exists():
        return
    known = json.loads(file.read_text()).get("device", {}).get("name", device)
    if known != device:
        file.rename(file.with_name(f"{file.stem}-{'-'.join(known.lower().split())}.json"))


def add(file: Path, found: dict[str, Any]) -> None:
    """Add figures to the existing ones; nested tables are merged."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with turn(file.with_suffix(".lock")):
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(_merged(known, found), indent=1) + "\n")


def _merged(known: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    merged = dict(known)
    for name, value in found.items():
        old = merged.get(name)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[name] = _merged(old, value) if both else value
    return merged
