"""Processor time of process trees: a figure that a busy machine disturbs less.

It is read from `/proc`, so on Linux only.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Usage:
    """One process: its parent, and the seconds used by it and by its children that have ended."""

    parent: int
    seconds: float

    @classmethod
    def of(cls, stat: str) -> Usage:
        """Parse a line of `/proc/PID/stat` (see proc(5)); the name in brackets may hold spaces."""
        fields = stat.rpartition(")")[2].split()
        return cls(int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK"))


def seconds(roots: Iterable[int]) -> float:
    """Return the processor seconds that these process trees have used so far."""
    return total(_living(), roots)


def total(usages: dict[int, Usage], roots: Iterable[int]) -> float:
    """Return the sum over the roots' trees, each process once."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, usage in usages.items():
        children[usage.parent].append(pid)
    waiting, seen = list(roots), set[int]()
    while waiting:
        pid = waiting.pop()
        if pid in usages and pid not in seen:
            seen.add(pid)
            waiting += children[pid]
    return sum(usages[pid].seconds for pid in seen)


def _living() -> dict[int, Usage]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = Usage.of((folder / "stat").read_text(encoding="utf-8"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended during the look
    return found
