"""Prose linter: finds lines of prose over 100 columns, and words that this project does not use.

Run it as `python -m bin.check_prose [FOLDER ...]`; without folders it checks all tracked files.
Prose is the docstrings and comments of Python files and the paragraphs, lists, quotes and headings
of Markdown files. Tables, code, and lines that are one long link or URL may be longer.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REPOSITORY = Path(__file__).parents[1]
COLUMNS = 100

LONG_LINES_ALLOWED: frozenset[str] = frozenset()
"""Paths of files that may have longer lines of prose. Should be empty."""

REPORTS = "bench/results/"
"""Where programs write what they measured. Their lines may be longer; their words are checked."""

NAMES_THE_WORDS = frozenset(
    {"bin/check_prose.py", "tests/unit/bin/test_check_prose.py", "models/scenes/train.py"}
)
"""The files that must name the unwanted words: this one, its test, and an old option's name."""

SUFFIXES = (".py", ".md", ".yaml", ".yml", ".toml")

UNWANTED = (
    r"whoever",
    r"whosoever",
    r"whomever",
    r"anew",
    r"for ever",
    r"so many",
    r"so long that",
    r"(?:is|are|was|were|be) (?:not )?to be \w+",
    r"to be had",
    r"to be called",
    r"(?:in|within|out of) reach",
    r"thereof",
    r"and neither",
    r"(?:come|comes|came) of it",
    r"lest",
    r"bothered",
    r"\w*wardrobes?",
)
"""Words and phrases that a reader whose first language is not English stumbles over."""

_GAP = r"(?:\s|#|>)+"
_WORDS = re.compile(
    r"\b(?:" + "|".join(phrase.replace(" ", _GAP) for phrase in UNWANTED) + r")\b", re.IGNORECASE
)
_PRAGMA = re.compile(r"\s*#\s*(?:noqa|type:|fmt:|pragma:|mypy:|ruff:).*$")
_LINK = re.compile(r"!?\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])?")
_MARKER = re.compile(r"^\s*(?:[-+*>]|\d+[.)]|#+)?\s*")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def long_lines(path: str, text: str) -> Iterator[int]:
    """The numbers of the lines of prose that are too long, from 1."""
    lines = text.splitlines()
    for number in sorted(set(_prose_of(path, text))):
        line = lines[number - 1]
        line = _PRAGMA.sub("", line) if path.endswith(".py") else line
        if len(line) > COLUMNS and not _one_word(line):
            yield number


def _prose_of(path: str, text: str) -> Iterator[int]:
    return _prose_of_python(text) if path.endswith(".py") else _prose_of_markdown(text)


def _one_word(line: str) -> bool:
    """Whether a line cannot be broken: it is one link, picture or URL."""
    return len(_MARKER.sub("", _LINK.sub("link", line)).split()) <= 1


def _prose_of_python(text: str) -> Iterator[int]:
    """The numbers of the lines that hold a comment or a part of a docstring."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED):
            for each in node.body:
                if _is_string(each):
                    yield from range(each.lineno, (each.end_lineno or each.lineno) + 1)


def _is_string(node: ast.stmt) -> bool:
    """Whether a statement is a docstring, of its owner or of the attribute above it."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _prose_of_markdown(text: str) -> Iterator[int]:
    """The numbers of the lines of paragraphs, list items, quotes and headings."""
    in_table = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in {"table_open", "table_close"}:
            in_table = token.type == "table_open"
        if token.type == "inline" and token.map and not in_table:
            yield from range(token.map[0] + 1, token.map[1] + 1)


def unwanted_words(text: str) -> Iterator[tuple[int, str]]:
    """Each unwanted word or phrase, with the number of the line where it begins."""
    for found in _WORDS.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, " ".join(found[0].split())


def tracked(folders: Iterable[str] = ()) -> list[str]:
    """The paths of the tracked files that are checked, relative to the repository."""
    command = ["git", "ls-files", "-z", "--", *folders]
    listed = subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True, text=True)
    paths = [path for path in listed.stdout.split("\0") if path.endswith(SUFFIXES)]
    return [path for path in paths if (REPOSITORY / path).is_file()]


def _has_prose(path: str) -> bool:
    """Whether the length of a file's lines is checked."""
    exempt = path.startswith(REPORTS) or path in LONG_LINES_ALLOWED
    return path.endswith((".py", ".md")) and not exempt


def problems(paths: Iterable[str]) -> Iterator[str]:
    """All problems of these files, each as "PATH:LINE: what is wrong"."""
    for path in paths:
        text = (REPOSITORY / path).read_text()
        if _has_prose(path):
            for number in long_lines(path, text):
                yield f"{path}:{number}: prose is longer than {COLUMNS} columns"
        if path not in NAMES_THE_WORDS:
            for number, word in unwanted_words(text):
                yield f'{path}:{number}: do not use "{word}"'


def main() -> int:
    """Print every problem; return 1 if there is one."""
    paths = tracked(sys.argv[1:])
    found = list(problems(paths))
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"prose: {len(paths)} files, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
