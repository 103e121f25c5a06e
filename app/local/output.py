"""One log for many processes: one line each, with the time and the name of the process."""

from __future__ import annotations

import codecs
import re
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LINE_LIMIT = 16_384  # characters; a longer line is split
FILE_LIMIT_BYTES = 10_000_000  # then NAME.log becomes NAME.log.1
COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
DIM, RED, RESET = "\x1b[2m", "\x1b[31m", "\x1b[0m"
ALARM = re.compile(
    r"\b(error|critical|fatal|panic)\b|^Traceback|^\w+(\.\w+)*Error\b", re.IGNORECASE
)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
CONTROLS = dict.fromkeys((*range(9), *range(10, 32), *range(127, 160)), "�")


class Lines:
    """Splits a stream of bytes into lines."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that `data` completes."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        while len(self._rest) > LINE_LIMIT:
            lines.append(self._rest[:LINE_LIMIT])
            self._rest = self._rest[LINE_LIMIT:]
        return [clean(line) for line in lines]

    def end(self) -> list[str]:
        """Return the rest of a stream that ends without a line break."""
        rest, self._rest = self._rest + self._decoder.decode(b"", final=True), ""
        return [clean(rest)] if rest else []


def clean(line: str) -> str:
    """Return the line without control characters: a prompt in a log cannot control a terminal."""
    return ESCAPES.sub("", line.rstrip("\r")).translate(CONTROLS)


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to use colour: for a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class Output:
    """Writes every process's lines to the screen, and to `folder/NAME.log`."""

    def __init__(self, screen: TextIO, folder: Path, *, colour: bool, width: int = 10) -> None:
        self._screen: TextIO | None = screen
        self._folder, self._colour, self._width = folder, colour, width
        self._colours: dict[str, int] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def line(self, name: str, text: str, *, quiet: bool = False) -> None:
        """Store one line, and show it if it is not blank.

        The screen shows only the alarms of a `quiet` process.
        """
        now = datetime.now().astimezone()
        self._store(name, f"{now.isoformat(timespec='milliseconds')} {text}\n")
        if text.strip() and (not quiet or ALARM.search(text)):
            self._show(self._format(now.strftime("%H:%M:%S"), name, text))

    def _format(self, time: str, name: str, text: str) -> str:
        column = f"{name:<{self._width}}"
        if not self._colour:
            return f"{time} {column} | {text}\n"
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        body = f"{RED}{text}{RESET}" if ALARM.search(text) else text
        return f"{DIM}{time}{RESET} \x1b[{colour}m{column}{RESET} {DIM}|{RESET} {body}\n"

    def _show(self, text: str) -> None:
        if self._screen is None:
            return
        try:
            self._screen.write(text)
            self._screen.flush()
        except OSError:  # a closed reader, as in `renderfarm up | head`, must not stop the farm
            self._screen = None

    def _store(self, name: str, text: str) -> None:
        path = self._folder / f"{name}.log"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
                full = file.tell() > FILE_LIMIT_BYTES
            if full:
                path.replace(path.with_suffix(".log.1"))
        except OSError as error:  # a full disk must not stop the farm because of its log
            self._show(f"{path}: {error.strerror}\n")
