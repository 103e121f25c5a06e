"""The page on log events: every event that the farm's processes log, read off the code."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config.repository import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEVELS = {"debug", "info", "warning", "error", "exception"}
HEAD = """# Log events

One line per event, on standard error: the level, the event's name, then its fields. Names and fields
are stable; texts in `cause` come from libraries. `exception` is an error with a traceback.

| event | level | logged by | fields | meaning |
|---|---|---|---|---|
"""
MEANINGS: dict[str, str] = {}
"""What each event means. `page` refuses an event without one, and a meaning without an event."""


@dataclass(frozen=True, slots=True)
class Event:
    """One place where an event is logged."""

    name: str
    level: str
    module: str
    fields: tuple[str, ...]


def page() -> str:
    """Return the whole page as Markdown. Raises `LookupError` where a meaning is missing or stale."""
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events():
        found[event.name].append(event)
    if wrong := found.keys() ^ MEANINGS.keys():
        raise LookupError(f"meanings and events differ: {', '.join(sorted(wrong))}")
    return HEAD + "".join(_row(name, found[name]) for name in sorted(found))


def _row(name: str, places: list[Event]) -> str:
    levels = ", ".join(sorted({each.level for each in places}))
    modules = ", ".join(f"`{module}`" for module in sorted({each.module for each in places}))
    fields = ", ".join(
        f"`{field}`" for field in sorted({field for each in places for field in each.fields})
    )
    return f"| `{name}` | {levels} | {modules} | {fields} | {MEANINGS[name]} |\n"


def events() -> Iterator[Event]:
    """Yield every event, by `log.info("name", field=...)` and its kin in `app` and `workers`.

    Where the name is a variable, its module says which names it can have, in `EVENTS`.
    """
    for folder in ("app", "workers"):
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            yield from _events_of(file)


def _events_of(file: Path) -> Iterator[Event]:
    module = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts)
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        logger = node.func.value
        if not (isinstance(logger, ast.Name) and logger.id == "log" and node.func.attr in LEVELS):
            continue
        fields = tuple(each.arg for each in node.keywords if each.arg and each.arg != "exc_info")
        for name in _names(node.args[0], tree):
            yield Event(name, node.func.attr, module, fields)


def _names(argument: ast.expr, tree: ast.Module) -> Iterator[str]:
    """Yield the constants that an event's name may be."""
    if isinstance(argument, ast.Constant):
        yield str(argument.value)
        return
    constants = [node.value for node in ast.walk(argument) if isinstance(node, ast.Constant)]
    yield from (value for value in constants if isinstance(value, str))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "EVENTS":
            yield from ast.literal_eval(node.value)
