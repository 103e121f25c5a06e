"""Output: one log of many processes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from app.local import output
from app.local.output import LINE_LIMIT, Lines, Output, clean, wants_colour

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


class Terminal(io.StringIO):
    """A screen that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@given(st.text(st.characters(categories=["L", "N", "Zs"])), st.lists(st.integers(1, 9)))
def test_lines_do_not_depend_on_the_cuts(text: str, cuts: list[int]) -> None:
    """A stream gives the same lines however its reads are cut, also inside a character."""
    data = f"{text}\nend".encode()
    lines, got, at = Lines(), [], 0
    for cut in cuts:
        got += lines.feed(data[at : at + cut])
        at += cut
    got += lines.feed(data[at:]) + lines.end()
    assert got == [text, "end"]


def test_endless_line_is_cut() -> None:
    """An endless line does not fill the memory: it is split, and nothing is lost."""
    lines = Lines()
    pieces = lines.feed(b"x" * (3 * LINE_LIMIT + 1)) + lines.end()
    assert [len(piece) for piece in pieces] == [LINE_LIMIT] * 3 + [1]


def test_a_line_cannot_steer_the_terminal() -> None:
    """Colours, cursor movements and bells in a prompt do not reach the screen."""
    assert (
        clean("a \x1b[31mred\x1b[0m circle\x07\x1b]0;title\x07\r")
        == "a red circle\ufffd\ufffd]0;title\ufffd"
    )


def test_colour_is_for_people() -> None:
    """Colour is used only on a terminal, and never with NO_COLOR."""
    assert wants_colour(Terminal(), {})
    assert not wants_colour(io.StringIO(), {})
    assert not wants_colour(Terminal(), {"NO_COLOR": "1"})
    assert not wants_colour(Terminal(), {"TERM": "dumb"})


def test_screen_and_file_say_the_same(tmp_path: Path) -> None:
    """Each line is shown with its process's name, and stored in that process's file."""
    screen = io.StringIO()
    log = Output(screen, tmp_path / "log", colour=False)
    log.line("api", "started")
    log.line("worker-1", "ready")
    shown = [line.split(maxsplit=1)[1] for line in screen.getvalue().splitlines()]
    assert shown == ["api        | started", "worker-1   | ready"]
    assert (tmp_path / "log" / "api.log").read_text().endswith(" started\n")


def test_quiet_process_shows_alarms_only(tmp_path: Path) -> None:
    """The screen shows only alarms of a quiet process, and no blank lines; its file has all."""
    screen = io.StringIO()
    log = Output(screen, tmp_path, colour=False)
    for line in ("LOG: checkpoint", "FATAL: no space", "", "Fatal error loading the AOF"):
        log.line("postgres", line, quiet=True)
    log.line("api", " ")
    assert [line.split("| ")[1] for line in screen.getvalue().splitlines()] == [
        "FATAL: no space",
        "Fatal error loading the AOF",
    ]
    assert len((tmp_path / "postgres.log").read_text().splitlines()) == 4


def test_each_process_keeps_its_colour(tmp_path: Path) -> None:
    """With colour, two processes have different colours and a failure is red."""
    screen = Terminal()
    log = Output(screen, tmp_path, colour=True)
    log.line("api", "fine")
    log.line("worker-1", "ERROR broken")
    first, second = screen.getvalue().splitlines()
    assert "\x1b[36mapi" in first
    assert "\x1b[32mworker-1" in second
    assert f"{output.RED}ERROR broken" in second
    assert output.RED not in first


def test_full_log_file_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log file never has much more than its limit; the previous one is kept."""
    monkeypatch.setattr(output, "FILE_LIMIT_BYTES", 100)
    log = Output(io.StringIO(), tmp_path, colour=False)
    for number in range(20):
        log.line("api", f"line {number}")
    assert (tmp_path / "api.log.1").stat().st_size < 200
    newest = tmp_path / "api.log" if (tmp_path / "api.log").exists() else tmp_path / "api.log.1"
    assert newest.read_text().endswith("line 19\n")


def test_a_reader_that_went_away_stops_nothing(tmp_path: Path) -> None:
    """After the screen is closed, the farm and its log files continue."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(text)

    log = Output(Closed(), tmp_path, colour=False)
    log.line("api", "one")
    log.line("api", "two")
    assert len((tmp_path / "api.log").read_text().splitlines()) == 2
