"""Long lines of prose and unwanted words are found, in this repository and where planted."""

from __future__ import annotations

import pytest

from bin.check_prose import LONG_LINES_ALLOWED, long_lines, problems, tracked, unwanted_words

LONG = "word " * 19 + "words."  # 101 columns
FITS = "word " * 19 + "word."  # 100 columns
FOLDERS = sorted({path.partition("/")[0] for path in tracked()})


@pytest.mark.parametrize("folder", FOLDERS)
def test_this_repository_has_no_problem(folder: str) -> None:
    """Our prose fits into 100 columns and has none of the unwanted words."""
    found = list(problems(tracked([folder])))
    assert not found, "\n" + "\n".join(found)


def test_no_file_is_exempt() -> None:
    """The list of files that may have long lines is empty."""
    assert frozenset() == LONG_LINES_ALLOWED


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f'"""{LONG}"""\n', [1]),
        (f'def f():\n    """Short.\n\n    {LONG}\n    """\n', [4]),
        (f'class A:\n    x = 1\n    """{LONG}"""\n', [3]),
        (f"x = 1\n# {LONG}\n", [2]),
        (f"x = 1  # {LONG}\n", [1]),
        (f"# {FITS[2:]}\n", []),
        (f'x = "{LONG}"\n', []),
        (f"x = 1  # {'short ' * 12}# noqa: S603 - this is a reason of its own\n", []),
        (f"# https://x.example/{'a' * 100}\n", []),
    ],
)
def test_long_lines_of_python(text: str, lines: list[int]) -> None:
    """Docstrings and comments have 100 columns; code, pragmas and long URLs may have more."""
    assert list(long_lines("x.py", text)) == lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"# Title\n\n{FITS}\n{LONG}\n", [4]),
        (f"- {LONG}\n", [1]),
        (f"> {LONG}\n", [1]),
        (f"## {LONG}\n", [1]),
        (f"{FITS}\n", []),
        (f"| a |\n|---|\n| {LONG} |\n", []),
        (f"```\n{LONG}\n```\n", []),
        (f"![{LONG}](x.png)\n", []),
        (f"- [a link](https://x.example/{'a' * 100}).\n", []),
    ],
)
def test_long_lines_of_markdown(text: str, lines: list[int]) -> None:
    """Prose has 100 columns; tables, code, pictures and links that fill a line may have more."""
    assert list(long_lines("x.md", text)) == lines


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Fine.\nWhoever reads.", [(2, "Whoever")]),
        ("# kept for\n# ever", [(1, "for # ever")]),
        ("a row is to be sent", [(1, "is to be sent")]),
        ("class LoraWardrobe: ...", [(1, "LoraWardrobe")]),
        ("renewed for every job; within reach of", [(1, "within reach")]),
        ("renewed for every job, as many as are reached", []),
    ],
)
def test_unwanted_words(text: str, found: list[tuple[int, str]]) -> None:
    """Unwanted words are found in any case and across lines, and not as parts of other words."""
    assert list(unwanted_words(text)) == found
