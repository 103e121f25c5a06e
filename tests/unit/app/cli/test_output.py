"""Output of the commands: tables, lines with tabs, JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from app.cli.output import moment, print_rows, print_table, to_json
from renderfarm.types import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = [("[red]a[/red]", None), ("b", 7)]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("draw", [print_table, print_rows])
def test_cells_are_plain_text(
    draw: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Markup in a cell is printed unchanged, and None is an empty cell."""
    draw(("name", "count"), ROWS)
    output = capsys.readouterr().out
    assert "[red]a[/red]" in output
    assert "None" not in output
    assert "7" in output


def test_programs_get_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal `print_rows` writes one line for each row, with tabs."""
    print_rows(("name", "count"), [("a\x1b[2J\nb", 7)])
    assert capsys.readouterr().out == "name\tcount\na [2J b\t7\n"
    print_rows(("name", "count"), [("a", 7)], header=False)
    assert capsys.readouterr().out == "a\t7\n"


def test_times_and_json() -> None:
    """A time is printed to the second, no time as nothing, and values as JSON on one line."""
    assert moment(datetime(2026, 1, 2, 3, 4, 5, 678, UTC)) == "2026-01-02 03:04:05"
    assert moment(None) == ""
    assert to_json([Progress(1, 2)]) == '[{"step": 1, "steps": 2}]'
