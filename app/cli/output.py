"""Output of the commands: tables for people, lines with tabs or JSON for programs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Draw a table with borders; None is an empty cell, and markup in a cell has no effect."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text("" if each is None else str(each)) for each in row))
    Console().print(table)


def print_rows(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, header: bool = True
) -> None:
    """Draw a plain table on a terminal; otherwise write lines with tabs between the fields."""
    console = Console()
    if not console.is_terminal:
        for row in [columns, *rows] if header else rows:
            click.echo("\t".join(map(printable, row)))
        return
    table = Table(*columns, box=None, show_header=header, header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable(each)) for each in row))
    console.print(table)


def printable(value: object) -> str:
    """Return a value without control characters, which a prompt could send to the terminal."""
    text = "" if value is None else str(value)
    return "".join(each if each.isprintable() else " " for each in text)


def moment(at: datetime | None) -> str:
    """Format a time to the second; no time is an empty cell."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""


def to_json(value: Any) -> str:
    """Write a dataclass, or a sequence of them, as JSON: indented on a terminal, else one line."""
    plain = [asdict(each) for each in value] if isinstance(value, list | tuple) else asdict(value)
    indent = 2 if sys.stdout.isatty() else None
    return json.dumps(plain, default=lambda at: at.isoformat(), indent=indent)
