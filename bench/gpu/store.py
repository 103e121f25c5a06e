"""Store: one JSON file of figures for several programs, and their lock on the device."""

from __future__ import annotations

import contextlib
import fcntl
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def lock(file: Path | None) -> Iterator[None]:
    """Hold the device exclusively among the programs with the same lock file."""
    if file is None:
        yield
        return
    with file.open("a") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        yield


def set_aside_other_device(file: Path, device: str) -> None:
    """Rename the file after its device if that is another one."""
    if not file.exists():
        return
    known = json.loads(file.read_text()).get("device", {}).get("name", device)
    if known != device:
        file.rename(file.with_name(f"{file.stem}-{'-'.join(known.lower().split())}.json"))


def add(file: Path, figures: dict[str, Any]) -> None:
    """Add figures to the file; nested tables are merged."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with lock(file.with_suffix(".lock")):
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(_merged(known, figures), indent=1) + "\n")


def _merged(known: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    merged = dict(known)
    for name, value in figures.items():
        old = merged.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[name] = _merged(old, value)
        else:
            merged[name] = value
    return merged
